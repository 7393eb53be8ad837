//! Writes the evidence: the permissions that our requests to the API server used or lacked.

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

/// Writes the start of a world.
pub fn begun(world: &World) {
    append(&Entry::Begun { namespace: world.namespace.clone() });
}

/// Writes the end of a world, with its evidence. The used permissions include those of other worlds on the same control
/// plane at the same time. This is correct, because these permissions were used too.
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

/// The holder of the permissions that a request used, if the chart grants them. Tests act as other users by
/// impersonation. Of these requests, only those with a role of the chart for users count.
fn holder(event: &AuditEvent) -> Option<&str> {
    let holder = match event.impersonated.as_str() {
        "" => event.user.strip_prefix(ACCOUNT),
        user => user.strip_prefix(ROLE),
    };
    // What is no resource, such as the list of what is served, everybody may read, and ask for the own rights.
    holder.filter(|_| !event.resource.is_empty() && event.resource != "selfsubjectaccessreviews")
}

/// True if a forbidden request of this world shows a missing permission. Requests that a test or the verifier expects
/// to be refused do not count.
fn is_fault(event: &AuditEvent, world: &World, events: &[AuditEvent]) -> bool {
    // In a namespace that is being deleted, the API server forbids all creations, even with permission.
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

/// Describes the missing permission. If an authorized apply is forbidden, the permission to create the object is
/// missing.
fn refusal(holder: &str, event: &AuditEvent) -> String {
    let verb = if event.authorized { "create" } else { &event.verb };
    let AuditEvent { namespace, name, request, .. } = event;
    format!("{holder}: {} in namespace {namespace:?}, object {name:?}: {request}", right(event, verb))
}

/// The permissions that a request needed, if it was not forbidden. An apply that created an object needed `create` too.
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

/// The number of tests that this program runs with these arguments, according to its `--list`.
fn listed(args: impl IntoIterator<Item = OsString>) -> usize {
    let listed = Command::new(env::current_exe().unwrap()).args(args).arg("--list").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter(|line| line.ends_with(": test")).count()
}
