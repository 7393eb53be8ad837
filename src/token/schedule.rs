//! When the served generation is replaced.

use jiff::Timestamp;

use super::{Record, Records, Schedule, Terms, duration, jitter::jitter};

/// When the next generation is due, given the records and what the token asks for; nothing while none is served.
///
/// Where the schedule would come too late, because the served generation was minted under other terms or published late,
/// it is due when a third of its lifetime is left: it never runs out of time while terms say that it is replaced before.
///
/// A rotation waits until no superseded generation is in its overlap any more, unless the served one would run out of
/// time first: then the new one comes on schedule and the token is never without a valid value.
pub fn rotates_at(records: &Records, terms: &Terms, uid: &str) -> Option<Timestamp> {
    let served = records.served()?;
    let end = served.expires_at.0;
    let wanted = due(served, terms.schedule, uid);
    let due = if wanted < end { wanted } else { due(served, Schedule::LastThird, uid) };
    let free = records.overlap_ends().filter(|&ends| ends < end);
    Some(free.map_or(due, |free| due.max(free)))
}

fn due(served: &Record, schedule: Schedule, uid: &str) -> Timestamp {
    let interval = schedule.interval(served.lifetime());
    let start = match schedule {
        Schedule::Every(_) => served.published_at.as_ref().unwrap_or(&served.created_at).0,
        Schedule::BeforeExpiry(_) | Schedule::LastThird => served.created_at.0,
    };
    duration::after(start, interval - jitter(uid, served.generation, interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Digest;
    use jiff::SignedDuration;

    const UID: &str = "0e4f";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    fn terms(schedule: Schedule) -> Terms {
        Terms { prefix: "t".into(), lifetime: secs(15), schedule, overlap: secs(3) }
    }

    /// Intervals below 20 seconds have no jitter, so these tests can name instants.
    fn served(generations: i64, overlap: i64) -> Records {
        let mut records = Records::default();
        for generation in 1..=generations {
            let record = Record::new(generation, String::new(), Digest::of(""), at(generation), secs(15));
            records.record(record, at(generation));
            records.publish(generation, at(generation), secs(overlap));
        }
        records
    }

    #[test]
    fn every_counts_from_the_publish() {
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::Every(secs(10))), UID), Some(at(11)));
    }

    #[test]
    fn before_expiry_counts_back_from_the_end() {
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::BeforeExpiry(secs(5))), UID), Some(at(11)));
    }

    #[test]
    fn left_out_it_is_due_when_a_third_of_the_lifetime_is_left() {
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::LastThird), UID), Some(at(11)));
    }

    #[test]
    fn nothing_is_due_while_nothing_is_served() {
        assert_eq!(rotates_at(&Records::default(), &terms(Schedule::LastThird), UID), None);
    }

    #[test]
    fn a_running_overlap_is_waited_for() {
        let records = served(2, 12);
        assert_eq!(records.overlap_ends(), Some(at(14)));
        assert_eq!(rotates_at(&records, &terms(Schedule::Every(secs(5))), UID), Some(at(14)));
    }

    #[test]
    fn an_overlap_that_outlives_the_served_generation_is_not_waited_for() {
        let mut records = Records::default();
        records.record(Record::new(1, String::new(), Digest::of(""), at(0), secs(1000)), at(0));
        records.publish(1, at(0), secs(0));
        records.record(Record::new(2, String::new(), Digest::of(""), at(1), secs(15)), at(1));
        records.publish(2, at(1), secs(500));
        assert_eq!(rotates_at(&records, &terms(Schedule::Every(secs(5))), UID), Some(at(6)));
    }

    #[test]
    fn a_schedule_that_would_come_too_late_gives_way_to_the_last_third() {
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::Every(secs(14))), UID), Some(at(15)));
        for late in [15, 19, 1_000] {
            assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::Every(secs(late))), UID), Some(at(11)), "{late}");
        }
    }

    #[test]
    fn a_generation_that_was_published_late_is_replaced_before_it_runs_out() {
        let mut records = Records::default();
        records.record(Record::new(1, String::new(), Digest::of(""), at(0), secs(15)), at(0));
        records.publish(1, at(6), secs(0));
        assert_eq!(rotates_at(&records, &terms(Schedule::Every(secs(10))), UID), Some(at(10)));
    }

    #[test]
    fn jitter_only_ever_brings_a_rotation_forward() {
        let mut records = Records::default();
        records.record(Record::new(1, String::new(), Digest::of(""), at(0), secs(90_000)), at(0));
        records.publish(1, at(0), secs(0));
        let due = rotates_at(&records, &terms(Schedule::Every(secs(80_000))), UID).unwrap();
        assert!(due <= at(80_000) && due > at(76_000), "{due}");
    }
}
