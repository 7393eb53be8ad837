//! Maintenance windows: when rotations are welcome.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Fault,
    fault::{calendar, parsed},
};
use crate::token::{Window, duration::Duration};

/// Time in which rotations are welcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// When it opens: minute, hour, day of month, month and day of week as in crontab(5), for example `0 3 * * SUN`.
    #[schemars(length(max = 100))]
    pub cron: String,
    /// How long it stays open, for example `4h`.
    pub duration: Duration,
    /// Time zone of `cron` in the IANA database, for example `Europe/Berlin`. Left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
}

/// Those of these windows that are ones, with a fault at `path` for each of the others.
pub fn windows(given: &[MaintenanceWindow], path: &str, faults: &mut Vec<Fault>) -> Vec<Window> {
    let window = |(index, given): (usize, &MaintenanceWindow)| {
        let path = format!("{path}[{index}]");
        let opens = calendar(&given.cron, given.time_zone.as_deref(), &path, faults);
        let duration = parsed(Some(&given.duration), format!("{path}.duration"), faults);
        Some(Window { opens: opens?, duration: duration? })
    };
    given.iter().enumerate().filter_map(window).collect()
}
