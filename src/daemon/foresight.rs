//! What a read that writes nothing would come to at its end: who is gone, and what the guard would hold.

use std::sync::Arc;

use crate::checkpoint::{CheckpointError, Gone, ReadContext, ReadProof, SeenRows};
use crate::plan::deed::DeedKind;
use crate::plan::guard::Verb;

use super::cycle::{CycleParts, CycleReport};

/// Completes the report of a read in preview.
pub(super) async fn foresee(
    parts: &CycleParts<'_>,
    context: &ReadContext,
    seen: SeenRows,
    proof: &ReadProof,
    report: &mut CycleReport,
) -> Result<(), CheckpointError> {
    let (source, now, began, is_full) = (context.source, parts.clock.now(), proof.began, proof.is_full);
    let policy = Arc::clone(&context.policy);
    let mut preview = std::mem::take(&mut report.preview);
    let count = |is_new: bool| -> u64 {
        preview.by_mask.iter().filter(|((new, _), _)| *new == is_new).map(|(_, contacts)| contacts).sum()
    };
    let (created, changed) = (count(true), count(false));
    if report.is_mapping_new && changed > 0 {
        preview.by_verb.insert(Verb::Mapping, changed);
    }
    let foreseen = parts.store.call(move |checkpoint| {
        let gone = if is_full { checkpoint.count_gone(source, &seen, (began, now))? } else { Gone::default() };
        let verb = DeedKind::of_ending(policy.ending).and_then(DeedKind::verb);
        if let Some(verb) = verb.filter(|_| gone.for_the_second_time > 0) {
            *preview.by_verb.entry(verb).or_default() += gone.for_the_second_time;
        }
        let forecasts = checkpoint.forecast(source, &policy.guard, &preview, created, now)?;
        Ok((preview, gone.missing, forecasts))
    });
    let missing;
    (report.preview, missing, report.forecasts) = foreseen.await?;
    report.balance.gone += missing;
    Ok(())
}
