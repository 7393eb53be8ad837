//! The generations of one token.
//!
//! ```text
//!             publish               successor published       overlap over
//!  Recorded ──────────▶ Active ─────────────────▶ Superseded ─────────────▶ Expired
//!                          └────────── revoke, at any time ──────────▶ Revoked (final)
//! ```

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Digest, Limit, duration};

/// The most generations of a token that are valid at the same time. One more ends the oldest one.
pub const MAX_VALID: usize = 3;
/// The time after which a write can no longer take effect. The API server limits a request to one minute, and a pass
/// gives up earlier.
pub const LANDS_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// The pause after a publish without an answer, before another generation is minted. Also the pause after a publish,
/// before the Secret is repaired.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The number of expired generations that stay listed.
const KEPT_ENDED: usize = 2;
/// The shortest and the longest wait after a refused publish, before another generation is minted.
const RETRY: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(2), SignedDuration::from_mins(5));

/// The state of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum State {
    /// The digest is on record. The Secret may or may not hold the value.
    Recorded,
    /// The Secret holds the value.
    Active,
    /// A newer generation was published. This one stays valid until its overlap is over.
    Superseded,
    /// The generation has expired.
    Expired,
    /// The generation was revoked. This is final.
    Revoked,
}

/// The record of one generation. It never contains the plaintext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Number of the generation: 1, 2, 3 … A number is never used again.
    pub generation: i64,
    /// Public id of the value: the second part of the plaintext. A verifier finds the record by this id.
    pub id: String,
    /// SHA-256 of the whole plaintext, in lower-case hexadecimal.
    pub sha256: Digest,
    /// The state of the generation. Recorded: not published. Active: in the Secret. Superseded: in its overlap. Expired
    /// and Revoked: refused.
    pub state: State,
    /// The time at which the value was created.
    pub created_at: Time,
    /// The first time at which the Secret was known to hold the value. If omitted, the value is not published yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Time>,
    /// The expiry: from this time on the value is refused. It never moves to a later time. If omitted, the generation
    /// never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The `regenerate.id` that asked for the generation. If omitted, it was not created on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// The further keys of the Secret that contain the value. If omitted, there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub rendered: Vec<Rendered>,
}

/// A key of the Secret that contains the value. The value is never read back, so digests show if the key is up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rendered {
    /// The key of the Secret.
    pub key: String,
    /// SHA-256 of the template's result with placeholders for the value and its id, in lower-case hexadecimal.
    pub source: Digest,
    /// SHA-256 of the key's value in the Secret, in lower-case hexadecimal.
    pub sha256: Digest,
}

/// The state and the times of a generation. They decide if its value may be presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The state of the generation.
    pub state: State,
    /// The time of the mint.
    pub created_at: Timestamp,
    /// The expiry. `None`: the generation never expires.
    pub end: Option<Timestamp>,
}

impl Life {
    /// True if a caller may present the value at `now`, by state and times alone.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        match self.state {
            State::Recorded | State::Active | State::Superseded => self.lasts(now),
            State::Expired | State::Revoked => false,
        }
    }

    fn lasts(&self, now: Timestamp) -> bool {
        self.end.is_none_or(|end| now < end)
    }

    /// The expiry under `limit`: the generation's own expiry, or an earlier one that `limit` demands. `None`: it may be
    /// valid forever.
    ///
    /// A generation that never expires gets an end when it is superseded: the end of its overlap. The longest lifetime
    /// must not end that overlap early. So it bounds no superseded generation where generations may never expire.
    pub fn end_within(&self, limit: &Limit) -> Option<Timestamp> {
        let may_last = limit.never && (self.end.is_none() || self.state == State::Superseded);
        let bounded = limit.lifetime.filter(|_| !may_last);
        let longest = bounded.map(|max| duration::after(self.created_at, max));
        [self.end, longest, limit.until].into_iter().flatten().min()
    }
}

impl Record {
    /// A generation that was minted at `at`. `lifetime` is counted from then. `None`: the generation never expires.
    pub fn new(
        generation: i64,
        id: String,
        sha256: Digest,
        at: Timestamp,
        lifetime: impl Into<Option<SignedDuration>>,
    ) -> Self {
        Self {
            generation,
            id,
            sha256,
            state: State::Recorded,
            created_at: Time(at),
            published_at: None,
            expires_at: lifetime.into().map(|lifetime| Time(duration::after(at, lifetime))),
            asked_by: None,
            rendered: Vec::new(),
        }
    }

    /// True if a caller may present the value at `now`, by the record alone.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.life().is_valid(now)
    }

    /// Its state and its times.
    pub fn life(&self) -> Life {
        Life { state: self.state, created_at: self.created_at.0, end: self.end() }
    }

    /// The expiry. `None`: the generation never expires.
    pub fn end(&self) -> Option<Timestamp> {
        self.expires_at.as_ref().map(|at| at.0)
    }

    /// The time from the mint to the expiry. If the expiry was moved, this is no longer the original lifetime. `None`:
    /// the generation never expires.
    pub fn lifetime(&self) -> Option<SignedDuration> {
        self.end().map(|end| end.duration_since(self.created_at.0))
    }

    /// True unless the generation has expired or was revoked.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Recorded | State::Active | State::Superseded)
    }

    /// True if the generation ended without being published.
    fn is_refused(&self) -> bool {
        self.state == State::Expired && self.published_at.is_none()
    }

    /// The expiry under `limit`: the record's own expiry, or an earlier one that `limit` demands. `None`: the
    /// generation may be valid forever.
    pub fn end_within(&self, limit: &Limit) -> Option<Timestamp> {
        self.life().end_within(limit)
    }

    /// Moves the expiry to `at`, unless it is earlier already.
    pub fn end_by(&mut self, at: Timestamp) {
        self.expires_at = Some(Time(self.end().map_or(at, |end| end.min(at))));
    }
}

/// The records of one token, oldest generation first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(Vec<Record>);

impl Records {
    /// The records as they are at `now`. A generation that has run out of time gets the state `Expired`.
    pub fn at(records: &[Record], now: Timestamp) -> Self {
        let mut records = records.to_vec();
        records.sort_by_key(|record| record.generation);
        let mut records = Self(records);
        records.expire(now);
        records
    }

    /// All records, oldest first.
    pub fn as_slice(&self) -> &[Record] {
        &self.0
    }

    /// The highest generation number so far. 0 if there is no generation.
    pub fn last_generation(&self) -> i64 {
        self.0.last().map_or(0, |record| record.generation)
    }

    /// The generation that the Secret should hold.
    pub fn served(&self) -> Option<&Record> {
        self.0.iter().rev().find(|record| record.state == State::Active)
    }

    /// Generations that may or may not have been published.
    pub fn recorded(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().filter(|record| record.state == State::Recorded)
    }

    /// Generations that a caller may still present.
    pub fn valid(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().filter(|record| record.is_open())
    }

    /// The newest generation in its overlap: the one that was served last.
    pub fn previous(&self) -> Option<&Record> {
        self.0.iter().rev().find(|record| record.state == State::Superseded)
    }

    /// The end of the last running overlap. `None` if no overlap is running.
    pub fn overlap_ends(&self) -> Option<Timestamp> {
        let superseded = self.0.iter().filter(|record| record.state == State::Superseded);
        superseded.filter_map(Record::end).max()
    }

    /// The next expiry of a valid generation.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.valid().filter_map(Record::end).min()
    }

    /// The last expiry of any generation, past or future.
    pub fn last_end(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(Record::end).max()
    }

    /// The record of a generation.
    pub fn get(&self, generation: i64) -> Option<&Record> {
        self.0.iter().find(|record| record.generation == generation)
    }

    /// True if any generation was ever published.
    pub fn ever_published(&self) -> bool {
        self.0.iter().any(|record| record.published_at.is_some())
    }

    /// The earliest time for another generation, if the newest one ended without being published. `None`: no wait.
    ///
    /// Each write of a status triggers the next pass. Without a wait, a lasting refusal would be repeated as fast as
    /// the API server can answer. The wait doubles with every generation since the last published one.
    pub fn may_retry_from(&self, now: Timestamp) -> Option<Timestamp> {
        let newest = self.0.last().filter(|record| record.is_refused() && record.created_at.0 <= now)?;
        let published = self.0.iter().rev().find(|record| record.published_at.is_some());
        let tries = newest.generation.saturating_sub(published.map_or(0, |record| record.generation));
        let wait = SignedDuration::from_secs(1 << tries.clamp(1, 16)).clamp(RETRY.0, RETRY.1);
        Some(duration::after(newest.created_at.0, wait))
    }

    /// The earliest time at which another generation may be recorded. `None`: no wait.
    ///
    /// A publish without an answer may still take effect, so its digest is kept. But there are never more than
    /// [`MAX_VALID`] valid generations. So the last place is only given when one of these publishes can no longer take
    /// effect.
    ///
    /// The first place is given after a pause. Otherwise a short outage of the API server would use up both places. A
    /// record from the future, after a clock was set back, causes no wait.
    pub fn may_record_from(&self, now: Timestamp) -> Option<Timestamp> {
        let pending = || self.recorded().map(|record| record.created_at.0).filter(|&created| created <= now);
        let landed = pending().min().map(|oldest| duration::after(oldest, LANDS_WITHIN));
        let landed = landed.filter(|_| pending().count() + 1 >= MAX_VALID);
        let paused = pending().max().map(|newest| duration::after(newest, PAUSE));
        landed.max(paused)
    }

    /// The earliest time at which the served generation may be replaced because the Secret does not hold it. `None`: no
    /// wait. Each repair shortens the life of an earlier value, so there is a pause between two repairs.
    pub fn may_repair_from(&self, now: Timestamp) -> Option<Timestamp> {
        let published = self.served()?.published_at.as_ref().map(|at| at.0).filter(|&at| at <= now)?;
        Some(duration::after(published, PAUSE))
    }

    /// Adds the record of a new generation.
    ///
    /// If more than [`MAX_VALID`] generations would be valid, the oldest superseded one ends. A generation that the
    /// Secret holds, or may come to hold, never ends here. Records of publishes that can no longer take effect are
    /// removed.
    pub fn record(&mut self, record: Record, now: Timestamp) {
        self.0.retain(|lost| lost.state != State::Recorded || duration::after(lost.created_at.0, LANDS_WITHIN) > now);
        let displaced: Vec<_> = self.displaced().map(|record| record.generation).collect();
        let displaced = self.0.iter_mut().filter(|record| displaced.contains(&record.generation));
        displaced.for_each(|record| record.end_by(now));
        self.0.push(record);
        self.expire(now);
    }

    /// The superseded generations that end when another one is recorded, the oldest first.
    pub fn displaced(&self) -> impl Iterator<Item = &Record> {
        let excess = (self.valid().count() + 1).saturating_sub(MAX_VALID);
        self.0.iter().filter(|record| record.state == State::Superseded).take(excess)
    }

    /// Marks `generation` as published at the time `at`. The overlap of its predecessor begins.
    ///
    /// Every other generation with the state `Recorded` is removed. The publish changed the version of the Secret, so
    /// no earlier publish can take effect any more.
    pub fn publish(&mut self, generation: i64, at: Timestamp, overlap: SignedDuration) {
        self.0.retain(|record| record.state != State::Recorded || record.generation == generation);
        for record in &mut self.0 {
            if record.generation == generation && record.state == State::Recorded {
                record.state = State::Active;
                record.published_at = Some(Time(at));
            } else if record.generation != generation && record.state == State::Active {
                record.state = State::Superseded;
                record.end_by(duration::after(at, overlap));
            }
        }
    }

    /// Ends a generation that was certainly never published, so nobody can have its value.
    ///
    /// Its record stays until there is a newer generation. So its number is not given again, and the newer generation
    /// waits long enough.
    pub fn refuse(&mut self, generation: i64, now: Timestamp) {
        let refused = |record: &&mut Record| record.state == State::Recorded && record.generation == generation;
        self.0.iter_mut().filter(refused).for_each(|record| record.end_by(now));
        self.expire(now);
    }

    /// Shortens each valid generation to `limit`. No expiry is ever moved to a later time.
    pub fn limit(&mut self, limit: &Limit, now: Timestamp) {
        let successors: Vec<_> = self.0.iter().map(|record| self.successor_published(record.generation)).collect();
        for (record, successor) in self.0.iter_mut().zip(successors).filter(|(record, _)| record.is_open()) {
            let superseded = record.state == State::Superseded;
            let overlap = successor.zip(limit.overlap).filter(|_| superseded);
            let overlap = overlap.map(|(published, overlap)| duration::after(published, overlap));
            record.end_within(limit).into_iter().chain(overlap).for_each(|end| record.end_by(end));
        }
        self.expire(now);
    }

    /// The first publish of a later generation.
    fn successor_published(&self, generation: i64) -> Option<Timestamp> {
        let later = self.0.iter().filter(|record| record.generation > generation);
        later.filter_map(|record| record.published_at.as_ref()).map(|at| at.0).min()
    }

    /// Moves the expiry of each valid generation before `generation` to `at`, unless the expiry is earlier already.
    pub fn end_before(&mut self, generation: i64, at: Timestamp, now: Timestamp) {
        let older = |record: &&mut Record| record.generation < generation && record.is_open();
        self.0.iter_mut().filter(older).for_each(|record| record.end_by(at));
        self.expire(now);
    }

    /// Revokes every generation that has not expired. This is final.
    pub fn revoke(&mut self) {
        for record in self.0.iter_mut().filter(|record| record.state != State::Expired) {
            record.state = State::Revoked;
        }
    }

    /// Removes all expired generations but the newest two. Also removes generations that were never published, unless
    /// they are the newest. Revoked generations stay until the token is deleted.
    pub fn prune(&mut self) {
        let newest = self.last_generation();
        self.0.retain(|record| !record.is_refused() || record.generation == newest);
        let expired = self.0.iter().filter(|record| record.state == State::Expired).count();
        let mut excess = expired.saturating_sub(KEPT_ENDED);
        self.0.retain(|record| {
            let goes = record.state == State::Expired && excess > 0;
            excess -= usize::from(goes);
            !goes
        });
    }

    /// Forgets rendered keys of values that are no longer in the Secret, and keys for which `is_wanted` returns false.
    pub fn forget_made(&mut self, is_wanted: impl Fn(&str) -> bool) {
        for record in &mut self.0 {
            let held = matches!(record.state, State::Recorded | State::Active);
            record.rendered.retain(|rendered| held && is_wanted(&rendered.key));
        }
    }

    /// The records, for the status.
    pub fn into_vec(self) -> Vec<Record> {
        self.0
    }

    fn expire(&mut self, now: Timestamp) {
        for record in &mut self.0 {
            if record.is_open() && !record.life().lasts(now) {
                record.state = State::Expired;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn minted(generation: i64, hour: i64) -> Record {
        Record::new(generation, format!("id{generation}"), Digest::of(generation.to_string()), at(hour), HOUR * 10)
    }

    /// Generation 1 was superseded at hour 1 with an overlap of two hours. Generation 2 is served.
    fn rotated() -> Records {
        let mut records = Records::default();
        records.record(minted(1, 0), at(0));
        records.publish(1, at(0), HOUR);
        records.record(minted(2, 1), at(1));
        records.publish(2, at(1), HOUR * 2);
        records
    }

    fn states(records: &Records) -> Vec<(i64, State)> {
        records.as_slice().iter().map(|record| (record.generation, record.state)).collect()
    }

    #[test]
    fn a_predecessor_ages_only_once_its_successor_is_published() {
        let mut records = Records::default();
        records.record(minted(1, 0), at(0));
        records.publish(1, at(0), HOUR);
        records.record(minted(2, 1), at(1));
        assert_eq!(states(&records), [(1, State::Active), (2, State::Recorded)]);
        assert_eq!(records.as_slice()[0].end(), Some(at(10)));
        records.publish(2, at(1), HOUR * 2);
        assert_eq!(states(&records), [(1, State::Superseded), (2, State::Active)]);
        assert_eq!(records.as_slice()[0].end(), Some(at(3)));
    }

    #[test]
    fn an_overlap_never_extends_an_expiry() {
        let mut records = rotated();
        records.record(minted(3, 2), at(2));
        records.publish(3, at(2), HOUR * 1000);
        assert_eq!(records.as_slice()[0].end(), Some(at(3)));
        assert_eq!(records.as_slice()[1].end(), Some(at(11)));
    }

    #[test]
    fn what_ran_out_of_time_is_expired() {
        let records = Records::at(&rotated().into_vec(), at(3));
        assert_eq!(states(&records), [(1, State::Expired), (2, State::Active)]);
        assert!(rotated().as_slice()[0].is_valid(at(2)));
        assert!(!rotated().as_slice()[0].is_valid(at(3)), "the instant of expiry is refused");
        assert!(!rotated().as_slice()[1].is_valid(at(11)), "the expiry holds even if no status says so");
    }

    #[test]
    fn a_limit_shortens_what_is_valid_and_extends_nothing() {
        let ends = |limit: Limit| {
            let mut records = rotated();
            records.limit(&limit, at(2));
            records.as_slice().iter().map(|record| record.end()).collect::<Vec<_>>()
        };
        let lifetime = |hours: i32| Limit { lifetime: Some(HOUR * hours), ..Limit::default() };
        assert_eq!(ends(Limit::default()), [Some(at(3)), Some(at(11))]);
        assert_eq!(ends(lifetime(1000)), [Some(at(3)), Some(at(11))]);
        assert_eq!(ends(lifetime(4)), [Some(at(3)), Some(at(5))]);
        assert_eq!(ends(Limit { until: Some(at(3)), ..Limit::default() }), [Some(at(3)), Some(at(3))]);
        let mut records = rotated();
        records.limit(&lifetime(1), at(2));
        assert_eq!(states(&records), [(1, State::Expired), (2, State::Expired)]);
    }

    #[test]
    fn what_never_runs_out_of_time_is_limited_once_that_is_forbidden() {
        let end = |never| {
            let mut records = Records::default();
            let record = Record::new(1, "id".into(), Digest::of("1"), at(0), None);
            assert!(record.is_valid(at(1_000_000)));
            records.record(record, at(0));
            records.limit(&Limit { lifetime: Some(HOUR), overlap: None, never, until: None }, at(0));
            records.as_slice()[0].end()
        };
        assert_eq!((end(true), end(false)), (None, Some(at(1))));
    }

    #[test]
    fn what_never_ran_out_of_time_keeps_its_overlap_after_the_longest_lifetime() {
        let mut records = Records::default();
        records.record(Record::new(1, "1".into(), Digest::of("1"), at(0), None), at(0));
        records.publish(1, at(0), HOUR);
        records.record(Record::new(2, "2".into(), Digest::of("2"), at(1000), None), at(1000));
        records.publish(2, at(1000), HOUR * 2);
        let ends = |never| {
            let mut records = records.clone();
            records.limit(&Limit { lifetime: Some(HOUR * 100), overlap: None, never, until: None }, at(1001));
            states(&records)
        };
        assert_eq!(ends(true), [(1, State::Superseded), (2, State::Active)]);
        assert_eq!(ends(false)[0], (1, State::Expired), "once that is forbidden");
    }

    #[test]
    fn a_lost_generation_stays_until_another_is_published() {
        let mut records = rotated();
        records.record(minted(3, 1), at(1));
        records.record(minted(4, 1), at(1));
        assert!(records.recorded().map(|record| record.generation).eq([3, 4]));
        assert_eq!(states(&records)[0], (1, State::Expired), "a fourth valid one ends the oldest");
        records.publish(4, at(1), HOUR);
        assert_eq!(states(&records), [(1, State::Expired), (2, State::Superseded), (4, State::Active)]);
    }

    #[test]
    fn lost_generations_are_bounded_and_kept_while_they_may_still_land() {
        let mut records = Records::default();
        records.record(minted(1, 0), at(0));
        records.publish(1, at(0), HOUR);
        assert_eq!(records.may_record_from(at(1)), None);
        for generation in [2, 3] {
            records.record(minted(generation, 1), at(1));
        }
        let landed = at(1) + LANDS_WITHIN;
        assert_eq!(records.may_record_from(at(1)), Some(landed));
        records.record(minted(4, 2), landed);
        assert_eq!(states(&records), [(1, State::Active), (4, State::Recorded)]);
    }

    #[test]
    fn a_refused_generation_ends_at_once_and_the_served_one_is_untouched() {
        let mut records = rotated();
        records.record(minted(3, 1), at(1));
        records.refuse(3, at(1));
        records.refuse(2, at(1));
        assert_eq!(states(&records), [(1, State::Superseded), (2, State::Active), (3, State::Expired)]);
        assert_eq!(records.as_slice()[2].end(), Some(at(1)));
        assert_eq!(records.last_generation(), 3);
    }

    #[test]
    fn another_follows_a_refused_one_later_and_later() {
        let mut records = rotated();
        assert_eq!(records.may_retry_from(at(2)), None);
        let mut waits = Vec::new();
        for generation in 3..13 {
            records.record(minted(generation, 2), at(2));
            assert_eq!(records.may_retry_from(at(2)), None, "it may still be published");
            records.refuse(generation, at(2));
            records.prune();
            assert_eq!(states(&records), [(1, State::Superseded), (2, State::Active), (generation, State::Expired)]);
            waits.push(records.may_retry_from(at(2)).unwrap().duration_since(at(2)).as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        records.record(minted(13, 2), at(2));
        records.publish(13, at(2), HOUR);
        assert_eq!(records.may_retry_from(at(2)), None);
    }

    #[test]
    fn revoked_is_final_and_expired_stays_expired() {
        let mut records = Records::at(&rotated().into_vec(), at(3));
        records.revoke();
        assert_eq!(states(&records), [(1, State::Expired), (2, State::Revoked)]);
        records.publish(2, at(3), HOUR);
        assert_eq!(states(&records), [(1, State::Expired), (2, State::Revoked)]);
    }

    #[test]
    fn two_ended_generations_stay_listed_and_all_revoked_ones() {
        let mut records = Records::default();
        for generation in 1..=6 {
            let mut record = minted(generation, 0);
            record.published_at = Some(Time(at(0)));
            record.state = if generation == 2 { State::Revoked } else { State::Expired };
            records.0.push(record);
        }
        records.prune();
        assert!(records.as_slice().iter().map(|record| record.generation).eq([2, 5, 6]));
    }
}
