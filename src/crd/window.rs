//! Maintenance windows: the times at which rotations may take place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Fault,
    fault::{calendar, parsed},
};
use crate::token::{Window, duration::Duration};

/// A maintenance window: a time in which rotations may take place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// The times at which the window opens: minute, hour, day of month, month and day of week as in crontab(5), for
    /// example `0 3 * * SUN`.
    #[schemars(length(max = 100))]
    pub cron: String,
    /// How long it stays open, for example `4h`.
    pub duration: Duration,
    /// The time zone of `cron`, by its name in the IANA database, for example `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
}

/// The valid ones of these windows. Each invalid window adds a fault at `path` with its index.
pub fn windows(given: &[MaintenanceWindow], path: &str, faults: &mut Vec<Fault>) -> Vec<Window> {
    let window = |(index, given): (usize, &MaintenanceWindow)| {
        let path = format!("{path}[{index}]");
        let opens = calendar(&given.cron, given.time_zone.as_deref(), &path, faults);
        let duration = parsed(Some(&given.duration), format!("{path}.duration"), faults);
        Some(Window { opens: opens?, duration: duration? })
    };
    given.iter().enumerate().filter_map(window).collect()
}
