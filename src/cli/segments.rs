//! The names of segments: the checkpoint knows them by numbers only, the configuration knows what people call them.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::contact::Field;

/// What fields are called to people.
#[derive(Debug, Clone, Default)]
pub(super) struct FieldNames(BTreeMap<String, String>);

impl FieldNames {
    /// The names that the configuration gives.
    pub(super) fn of(config: &Config) -> Self {
        let segments = config.sources.iter().flat_map(|source| &source.segments);
        Self(segments.map(|s| (Field::segment(&s.name).to_string(), format!("segment {:?}", s.name))).collect())
    }

    /// What a field, as it prints itself, is called; a segment that is no longer configured keeps its number.
    pub(super) fn name(&self, field: &str) -> String {
        self.0.get(field).cloned().unwrap_or_else(|| field.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_segment_is_called_by_its_name_and_others_keep_theirs() {
        let names = FieldNames([(Field::segment("VIP").to_string(), "segment \"VIP\"".to_owned())].into());
        assert_eq!(names.name(&Field::segment("VIP").to_string()), "segment \"VIP\"");
        assert_eq!(names.name(&Field::segment("gone").to_string()), Field::segment("gone").to_string());
        assert_eq!(names.name("town"), "town");
    }
}
