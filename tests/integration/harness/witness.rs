//! Writes down what is asked of the API server as ours.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs::File,
    io::Write,
    process::Command,
    sync::{LazyLock, Mutex},
    thread,
};

use controlplane::AuditEvent;

use super::{
    ACCOUNT, ROLE, World,
    evidence::{Entry, Right, Rights, path},
};

/// A world begins.
pub fn begun(world: &World) {
    append(&Entry::Begun { namespace: world.namespace.clone() });
}

/// A world ended. What was used by others on the same control plane in its time is told as well: it is as true.
pub fn ended(world: &World) {
    let (events, _) = world.plane.audit_from(world.since);
    let (mut used, mut refused) = (Rights::new(), BTreeSet::new());
    for event in &events {
        let Some(holder) = holder(event) else { continue };
        if event.code != 403 {
            used.entry(holder.to_owned()).or_default().extend(needed(event));
        } else if is_fault(event, world, &events) {
            refused.insert(refusal(holder, event));
        }
    }
    append(&Entry::Ended { namespace: world.namespace.clone(), well: !thread::panicking(), used, refused });
}

/// Whose rights a request used, if they are ours. What is asked of set purpose is asked as somebody by impersonation:
/// then only the roles for users count.
fn holder(event: &AuditEvent) -> Option<&str> {
    let holder = match event.impersonated.as_str() {
        "" => event.user.strip_prefix(ACCOUNT),
        user => user.strip_prefix(ROLE),
    };
    // What is no resource, such as the list of what is served, everybody may read.
    holder.filter(|_| !event.resource.is_empty())
}

/// Whether it is for want of a right, in this world, that something was refused which was not tried of set purpose.
fn is_fault(event: &AuditEvent, world: &World, events: &[AuditEvent]) -> bool {
    // Nothing new is let into a namespace that is being deleted, whatever the rights.
    let going = |other: &AuditEvent| {
        let deletes = (&*other.verb, &*other.resource, &*other.name) == ("delete", "namespaces", &*event.namespace);
        deletes && other.time <= event.time
    };
    let here = event.namespace.is_empty() || event.namespace == world.namespace;
    here && !event.is_try_to_forge()
        && !event.is_late_use(events)
        && event.impersonated.is_empty()
        && !(event.authorized && events.iter().any(going))
}

/// The right that was missing. An apply that was let in is refused when it would create.
fn refusal(holder: &str, event: &AuditEvent) -> String {
    let verb = if event.authorized { "create" } else { &event.verb };
    let AuditEvent { namespace, name, request, .. } = event;
    format!("{holder}: {} in namespace {namespace:?}, object {name:?}: {request}", right(event, verb))
}

/// The rights that an answered request needed.
fn needed(event: &AuditEvent) -> impl Iterator<Item = Right> {
    let created = (event.verb == "patch" && event.code == 201).then_some("create");
    [event.verb.as_str()].into_iter().chain(created).map(|verb| right(event, verb))
}

fn right(event: &AuditEvent, verb: &str) -> Right {
    let AuditEvent { group, resource, subresource, .. } = event;
    let resource = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
    Right { group: group.clone(), resource, verb: verb.to_owned() }
}

fn append(entry: &Entry) {
    static EVIDENCE: LazyLock<Mutex<File>> = LazyLock::new(|| {
        let run = Entry::Run { tests: listed(env::args_os().skip(1)), of: listed([]) };
        let mut file = File::create(path()).unwrap();
        write(&mut file, &run);
        Mutex::new(file)
    });
    write(&mut EVIDENCE.lock().unwrap(), entry);
}

fn write(file: &mut File, entry: &Entry) {
    let line = serde_json::to_string(entry).unwrap() + "\n";
    file.write_all(line.as_bytes()).unwrap();
}

/// How many tests this program runs when it is given these arguments, by its own account.
fn listed(args: impl IntoIterator<Item = OsString>) -> usize {
    let listed = Command::new(env::current_exe().unwrap()).args(args).arg("--list").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter(|line| line.ends_with(": test")).count()
}
