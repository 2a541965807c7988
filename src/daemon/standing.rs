//! The state of the authorization as an alert: raised when a person has to act, ended when tokens work again. The same
//! for the daemon and for commands that run once.

use crate::checkpoint::CheckpointError;
use crate::oauth::{Condition, Refresher, Standing};

use super::alarm::Alarm;

/// The alert that nobody has authorized, or that Reteno refuses to renew the tokens. Only [`tell_standing`] raises and
/// ends it.
pub const AUTHORIZATION_ALERT: &str = "authorization";
/// The alert that Reteno's API refuses tokens that Reteno itself goes on renewing: raised and ended by whoever sends.
pub const TOKEN_REFUSED_ALERT: &str = "token-refused";

/// The alert that nothing gets through to Reteno: raised and ended by whoever sends.
pub const OUTAGE_ALERT: &str = "outage";

/// Raises or ends the alert, by what the refresher knows. `program` is how this program is called with its
/// configuration.
pub async fn tell_standing(refresher: &Refresher, alarm: &Alarm, program: &str) -> Result<(), CheckpointError> {
    let text = match refresher.condition().await {
        Standing::Unauthorized => "Reteno has not authorized this program: nothing is sent".to_owned(),
        Standing::Granted {
            condition: Condition::NeedsAuthorization { reason, .. }, access_token_expires_at, ..
        } => {
            format!(
                "Reteno refuses to renew the tokens ({reason}): sending ends at {access_token_expires_at} at the latest"
            )
        }
        Standing::Granted { condition: Condition::Active, .. } => return alarm.end(AUTHORIZATION_ALERT).await,
        // nothing is known: what stands, stands
        Standing::Unknown { .. } => return Ok(()),
    };
    alarm.raise(AUTHORIZATION_ALERT, &text, &format!("run `{program} --authorize`")).await
}
