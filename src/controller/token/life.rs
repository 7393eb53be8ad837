//! The terms for a token's generations, from `spec.expiry`, `spec.rotation` and `spec.regenerate`, within the
//! Instance's policy.

use jiff::{SignedDuration, Timestamp};

use super::world::World;
use crate::{
    crd::{
        Fault, Reason,
        api_token::{Expiry, Previous, RotationSchedule},
        fault::{calendar, parsed},
        instance::RotationDefault,
        window::windows,
    },
    token::{
        Asked, Ending, Record, Schedule, Terms, TermsPolicy,
        duration::{after, written},
        jitter::most,
        schedule::meets_windows,
    },
};

/// The terms, with defaults for all fields that the spec leaves out.
pub(crate) fn life(world: &World, policy: &TermsPolicy, faults: &mut Vec<Fault>) -> Terms {
    let spec = &world.token.spec;
    let rotation = spec.rotation.clone().unwrap_or_default();
    let lifetime = lifetime(world, policy, faults);
    let schedule = schedule(world, rotation.schedule.as_ref(), lifetime, faults);
    let given = parsed(rotation.overlap.as_ref(), "spec.rotation.overlap", faults);
    let interval = schedule.interval(lifetime);
    let asks_overlap = given.is_some();
    let overlap = overlap(given, interval, lifetime, policy, faults);
    if faults.iter().all(|fault| !fault.path.starts_with("spec.rotation")) {
        faults.extend(too_often(world, &schedule, (lifetime, overlap), policy));
    }
    let own = windows(&rotation.windows, "spec.rotation.windows", faults);
    let windows = policy.windows.iter().cloned().chain([own]).filter(|group| !group.is_empty()).collect();
    let life = Terms {
        prefix: policy.prefix.clone(),
        lifetime,
        until: world.token.until(),
        schedule,
        overlap,
        asks_overlap,
        windows,
    };
    if faults.is_empty() && !meets_windows(&life) {
        let message =
            "no window opens between the time a rotation is due and the expiry; add windows, or make them longer";
        faults.push(Fault::new(Reason::WindowsUnmet, "spec.rotation.windows", message));
    }
    life
}

/// The lifetime of the next generation; none if it never expires.
fn lifetime(world: &World, policy: &TermsPolicy, faults: &mut Vec<Fault>) -> Option<SignedDuration> {
    let Expiry { after, at, never } = world.token.spec.expiry.clone().unwrap_or_default();
    if [after.is_some(), at.is_some(), never].into_iter().filter(|given| *given).count() > 1 {
        faults.push(Fault::invalid("spec.expiry", "give at most one of after, at and never"));
    }
    if never && !policy.never {
        let message =
            "the Instance forbids tokens that never expire; give after or at, or set its tokens.lifetime.never: Allow";
        faults.push(Fault::new(Reason::LifetimeExceeded, "spec.expiry.never", message));
    }
    if never {
        return None;
    }
    if let Some(at) = at {
        let at = at.parse().map_err(|rule| faults.push(Fault::invalid("spec.expiry.at", rule)));
        return Some(at.map_or(policy.default_lifetime, |at| until(world, policy, at, faults)));
    }
    let lifetime = parsed(after.as_ref(), "spec.expiry.after", faults).unwrap_or(policy.default_lifetime);
    if lifetime > policy.max_lifetime {
        let message = format!("must not be longer than the Instance's maximum, {}", written(policy.max_lifetime));
        faults.push(Fault::new(Reason::LifetimeExceeded, "spec.expiry.after", message));
    }
    Some(lifetime)
}

/// The lifetime of a generation of a token that ends `at`. A generation that nothing replaces gets the maximum
/// lifetime, because it has to last until `at`. Without a schedule, a generation that can last until `at` gets it too.
/// All others get the Instance's default lifetime.
fn until(world: &World, policy: &TermsPolicy, at: Timestamp, faults: &mut Vec<Fault>) -> SignedDuration {
    const PATH: &str = "spec.expiry.at";
    // A published token ends at this time. So a time in the past is a fault only while the token has not ended.
    if at <= world.now && !has_ended(world) {
        let message = format!("{at} is in the past; give a later time, or set revoked: true to end the token now");
        faults.push(Fault::invalid(PATH, message));
    }
    let is_within = at <= after(world.now, policy.max_lifetime);
    if !is_never_replaced(world) {
        let lasts = is_within && schedule_of(world).is_none();
        return if lasts { policy.max_lifetime } else { policy.default_lifetime };
    }
    if !world.records.ever_published() && !is_within {
        let max = written(policy.max_lifetime);
        let message = format!(
            "is further away than the Instance's maximum lifetime, {max}, and no rotation is scheduled; give an \
             earlier time, or a rotation.schedule"
        );
        faults.push(Fault::new(Reason::LifetimeExceeded, PATH, message));
    }
    policy.max_lifetime
}

/// True if the token is revoked, or if it was published and has no valid generation any more.
fn has_ended(world: &World) -> bool {
    let stated = world.before().revocation.is_some();
    let records = &world.records;
    stated || (records.ever_published() && records.valid().next().is_none())
}

/// True if a new generation is minted only on request. This is the default for values that are shown once, and if the
/// Instance has `tokens.rotation.default: Never`.
pub(crate) fn is_never_replaced(world: &World) -> bool {
    let policy = world.instance.as_ref().and_then(|instance| instance.spec.tokens.rotation.as_ref());
    let by_default = policy.is_some_and(|rotation| rotation.default == RotationDefault::Never);
    schedule_of(world).map_or(world.shown_once.served || by_default, |schedule| schedule.never)
}

/// The schedule in the spec.
fn schedule_of(world: &World) -> Option<&RotationSchedule> {
    world.token.spec.rotation.as_ref()?.schedule.as_ref()
}

fn schedule(
    world: &World,
    given: Option<&RotationSchedule>,
    lifetime: Option<SignedDuration>,
    faults: &mut Vec<Fault>,
) -> Schedule {
    const PATH: &str = "spec.rotation.schedule";
    let Some(given) = given else {
        return if is_never_replaced(world) { Schedule::Never } else { Schedule::LastThird };
    };
    let RotationSchedule { every, cron, time_zone, before_expiry, never } = given;
    let given = [every.is_some(), cron.is_some(), before_expiry.is_some(), *never];
    if given.into_iter().filter(|given| *given).count() != 1 {
        let message = "give exactly one of every, cron, beforeExpiry and never, or leave schedule out";
        faults.push(Fault::invalid(PATH, message));
    }
    if time_zone.is_some() && cron.is_none() {
        faults.push(Fault::invalid(PATH, "timeZone is allowed with cron only; remove timeZone"));
    }
    let at = |field: &str| format!("{PATH}.{field}");
    let every = parsed(every.as_ref(), at("every"), faults).map(|every| ("every", every, Schedule::Every(every)));
    let cron = cron.as_ref().and_then(|cron| calendar(cron, time_zone.as_deref(), PATH, faults));
    let cron = cron.map(|calendar| ("cron", calendar.interval(), Schedule::Cron(calendar)));
    let before = parsed(before_expiry.as_ref(), at("beforeExpiry"), faults)
        .map(|before| ("beforeExpiry", before, Schedule::BeforeExpiry(before)));
    let Some((field, duration, schedule)) = every.or(cron).or(before) else { return Schedule::Never };
    match lifetime {
        Some(lifetime) if duration >= lifetime => {
            faults.push(Fault::invalid(at(field), format!("must be shorter than the lifetime, {}", written(lifetime))));
            Schedule::Never
        }
        None if matches!(schedule, Schedule::BeforeExpiry(_)) => {
            faults.push(Fault::invalid(at(field), "is not allowed with expiry.never: true; give every or cron"));
            Schedule::Never
        }
        Some(_) | None => schedule,
    }
}

/// The overlap of the terms. An overlap in the spec can move the schedule: a rotation is due at least that long before
/// the expiry. The default overlap never moves the schedule. It is shortened so that it ends before the next rotation
/// can be due, and before the old value expires.
fn overlap(
    given: Option<SignedDuration>,
    interval: Option<SignedDuration>,
    lifetime: Option<SignedDuration>,
    policy: &TermsPolicy,
    faults: &mut Vec<Fault>,
) -> SignedDuration {
    const PATH: &str = "spec.rotation.overlap";
    let Some(overlap) = given else {
        let free = interval.map(|interval| interval - most(interval));
        let left = interval.zip(lifetime).map(|(interval, lifetime)| lifetime - interval);
        return [free, left].into_iter().flatten().fold(policy.default_overlap, SignedDuration::min);
    };
    if overlap > policy.max_overlap {
        let message = format!("must not be longer than the Instance's maximum, {}", written(policy.max_overlap));
        faults.push(Fault::new(Reason::OverlapExceeded, PATH, message));
    }
    if let Some(lifetime) = lifetime.filter(|&lifetime| overlap > lifetime / 2) {
        let message = format!(
            "an overlap of {} is too long for a lifetime of {}; give at most {}, half the lifetime",
            written(overlap),
            written(lifetime),
            written(lifetime / 2)
        );
        faults.push(Fault::invalid(PATH, message));
    }
    overlap
}

/// The fault that values would be renewed more often than the Instance's `tokens.rotation.min` allows. Its path is the
/// field that causes this.
fn too_often(
    world: &World,
    schedule: &Schedule,
    (lifetime, overlap): (Option<SignedDuration>, SignedDuration),
    policy: &TermsPolicy,
) -> Option<Fault> {
    let interval = schedule.interval(lifetime)?;
    let latest = lifetime.map(|lifetime| lifetime - overlap).filter(|&latest| latest < interval);
    let shortest = latest.unwrap_or(interval);
    if shortest >= policy.min_rotation {
        return None;
    }
    let path = match schedule {
        _ if latest.is_some() => "spec.rotation.overlap",
        Schedule::Every(_) => "spec.rotation.schedule.every",
        Schedule::Cron(_) => "spec.rotation.schedule.cron",
        Schedule::BeforeExpiry(_) => "spec.rotation.schedule.beforeExpiry",
        Schedule::LastThird | Schedule::Never => "spec.expiry.after",
    };
    let from = if world.token.spec.expiry.is_none() && path == "spec.expiry.after" {
        " (because of the Instance's default lifetime)"
    } else {
        ""
    };
    let message = format!(
        "a value would be renewed every {}{from}, but the Instance's tokens.rotation.min is {}; rotate less often",
        written(shortest),
        written(policy.min_rotation)
    );
    Some(Fault::new(Reason::RotationTooFrequent, path, message))
}

/// The request for a new generation; none once a generation was published for its id.
pub(crate) fn regenerate(world: &World, policy: &TermsPolicy, faults: &mut Vec<Fault>) -> Option<Asked> {
    let asked = world.token.spec.regenerate.as_ref()?;
    if world.before().regeneration.as_ref().is_some_and(|answered| answered.id == asked.id) {
        asked.previous.iter().for_each(|previous| form(previous, faults));
        return None;
    }
    if asked.id.is_empty() {
        faults.push(Fault::invalid("spec.regenerate.id", "must not be empty"));
    }
    let previous = asked.previous.as_ref().map_or(Ending::Overlap, |previous| ending(world, previous, policy, faults));
    Some(Asked { id: asked.id.clone(), previous })
}

/// Checks the form of `regenerate.previous`. It only ever shortens, so nothing else in it can be a fault once its id
/// was answered.
fn form(previous: &Previous, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.regenerate.previous";
    if previous.after.is_some() == previous.at.is_some() {
        faults.push(Fault::invalid(PATH, "give exactly one of after and at, or leave previous out"));
    }
    let mut fault = |field: &str, rule: &'static str| faults.push(Fault::invalid(format!("{PATH}.{field}"), rule));
    previous.after.iter().filter_map(|delay| delay.parse().err()).for_each(|rule| fault("after", rule));
    previous.at.iter().filter_map(|at| at.parse().err()).for_each(|rule| fault("at", rule));
}

fn ending(world: &World, previous: &Previous, policy: &TermsPolicy, faults: &mut Vec<Fault>) -> Ending {
    const PATH: &str = "spec.regenerate.previous";
    let max = written(policy.max_overlap);
    form(previous, faults);
    let mut fault = |field: &str, message: String| faults.push(Fault::invalid(format!("{PATH}.{field}"), message));
    if let Some(delay) = &previous.after {
        let delay = delay.parse().unwrap_or_default();
        if delay > policy.max_overlap {
            fault("after", format!("must not be longer than the Instance's maximum overlap, {max}"));
        }
        return Ending::After(delay);
    }
    let Some(at) = previous.at.as_ref().and_then(|at| at.parse().ok()) else { return Ending::Overlap };
    if at > after(world.now, policy.max_overlap) {
        fault("at", format!("must not be later than the Instance's maximum overlap, {max}, from now"));
    }
    if let Some(end) = world.records.served().and_then(Record::end).filter(|&end| end < at) {
        fault("at", format!("the current value already expires at {end}; give an earlier time"));
    }
    Ending::At(at)
}
