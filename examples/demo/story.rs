//! The story, in chapters. Each printed line was observed in the cluster, or is the answer to a request to the API.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokenry::{crd::name, token::Record};

use super::{
    NAMESPACE, Told,
    actor::eventually,
    root,
    stage::{Generation, INSTANCE, Stage},
};

/// The main token of the story, from `examples/short-lived.yaml`. It rotates every ten seconds.
const BRIEF: &str = "short-lived";
/// The token from `examples/restart.yaml`. It restarts the Deployment of the same name.
const RESTARTING: &str = "reporter";
/// The token from `examples/token.yaml`. The story regenerates it.
const LASTING: &str = "exporter";
/// The token from `examples/once.yaml`. Its value is shown once.
const ONCE: &str = "contractor";
/// The token from `examples/endpoint.yaml`. Its Instance is another one.
const FOREIGN: &str = "invoices";
/// A user with permission to write tokens, and no further permission.
const VISITOR: &str = "visitor";

/// Runs all chapters, in order.
pub async fn tell(stage: &Stage<'_>) -> Told {
    println!();
    let first = issued(stage).await?;
    exposed(stage, &first).await?;
    all_ready(stage).await?;
    restarted(stage).await?;
    let second = rotated(stage, &first).await?;
    overlap_over(stage, &first, &second).await?;
    regenerated(stage).await?;
    shown_once(stage).await?;
    revoked(stage).await?;
    narrowed(stage).await?;
    forbidden(stage).await?;
    guarded(stage).await?;
    println!("\nAll of this happened within {:.0} s.", stage.seconds());
    Ok(())
}

async fn issued(stage: &Stage<'_>) -> Told<Generation> {
    let examples = root().join("examples").display().to_string();
    stage.tell("applied", stage.kubectl(&["apply", "-f", &examples])?);
    let record = eventually("a generation is on record", async || stage.record(BRIEF, 1).await).await?;
    stage.tell("minted", format!("ApiToken {BRIEF}, status.records: {}", about(&record)));
    let first = stage.served(BRIEF, 1).await?;
    stage.tell("delivered", format!("Secret {BRIEF} holds {first}, whose SHA-256 is the one on record"));
    Ok(first)
}

/// Exposes the API. Then calls it through Traefik.
async fn exposed(stage: &Stage<'_>, first: &Generation) -> Told {
    stage.tell("exposed", expose(stage)?);
    let refused = stage.answered(None, 401).await?;
    stage.tell("created", led_by(stage)?);
    let challenge = refused.header("www-authenticate");
    stage.tell("refused", format!("without a token: {refused}, WWW-Authenticate: {challenge}"));
    let accepted = stage.answered(Some(first), 200).await?;
    stage.tell("accepted", format!("with {first}: {accepted} from the API, which saw {}", accepted.body));
    let other = stage.served(FOREIGN, 1).await?;
    let refused = stage.answered(Some(&other), 401).await?;
    stage.tell("refused", format!("with {other}, which is of another API: {refused}"));
    Ok(())
}

fn expose(stage: &Stage<'_>) -> Told<String> {
    let told = stage.kubectl(&["apply", "-f", &root().join("examples/demo/shop.yaml").display().to_string()])?;
    let uid = stage.kubectl(&["get", "instance", INSTANCE, "-o", "jsonpath={.metadata.uid}"])?;
    stage.lead(&name::unguessable_port("http", &uid))?;
    Ok(told)
}

/// The objects of the endpoint that lead requests to the API, and the one that asks the verifier about them.
fn led_by(stage: &Stage<'_>) -> Told<String> {
    let form = "-o=go-template={{range .items}}{{.kind}} {{.metadata.name}}\n{{end}}";
    stage.kubectl(&["get", "ingresses,middlewares.traefik.io", form])
}

/// Waits until all Tokenry objects of `examples/` are ready.
async fn all_ready(stage: &Stage<'_>) -> Told {
    let names = eventually("every Tokenry object of examples/ is Ready", async || ready_objects(stage)).await?;
    stage.tell("ready", names.join("\n"));
    Ok(())
}

fn ready_objects(stage: &Stage<'_>) -> Told<Option<Vec<String>>> {
    let printed = stage.kubectl(&["get", "tokenry", "-o", "json"])?;
    let objects: Value = serde_json::from_str(&printed).map_err(|error| format!("kubectl get: {error}"))?;
    let about = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array()?;
        let ready =
            conditions.iter().find(|condition| condition["type"] == "Ready" && condition["status"] == "True")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name, reason) = (&object["kind"], &object["metadata"]["name"], &ready["reason"]);
        Some(format!("{} {}: {}", text(kind), text(name), text(reason)))
    };
    Ok(objects["items"].as_array().into_iter().flatten().map(about).collect())
}

/// Shows the restart of a workload that reads the value when it starts.
async fn restarted(stage: &Stage<'_>) -> Told {
    let first = stage.served(RESTARTING, 1).await?;
    let done = async || Ok(stage.status(RESTARTING).await?.restart.filter(|restart| restart.at.is_some()));
    let restart = eventually("status says that the Deployment was restarted", done).await?;
    let noted =
        stage.kubectl(&["get", "deployment", RESTARTING, "-o", "jsonpath={.spec.template.metadata.annotations}"])?;
    if !noted.contains(&first.record.id) {
        return Err(format!("the Pods of Deployment {RESTARTING} do not name {first} in their annotations: {noted}"));
    }
    let about =
        format!("Deployment {RESTARTING}, for generation {}; annotations of its Pods: {noted}", restart.generation);
    stage.tell("restarted", about);
    Ok(())
}

async fn rotated(stage: &Stage<'_>, first: &Generation) -> Told<Generation> {
    let second = stage.served(BRIEF, 2).await?;
    // The predecessor is asked about first, because its overlap ends soon.
    let (old, new) = (stage.ask(Some(first)).await?, stage.answered(Some(&second), 200).await?);
    stage.tell("rotated", format!("Secret {BRIEF} holds {second}, and status.records: {}", about(&second.record)));
    old.must_be(200, "the predecessor during its overlap")?;
    stage.tell("overlap", format!("with {first}: {old}; with {second}: {new}"));
    Ok(second)
}

async fn overlap_over(stage: &Stage<'_>, first: &Generation, second: &Generation) -> Told {
    let end = end_of(stage, BRIEF, 1).await?;
    let old = stage.answered(Some(first), 401).await?;
    if Timestamp::now() < end {
        return Err(format!("{first} was refused before the end of its overlap, {end}"));
    }
    let new = stage.ask(Some(second)).await?;
    new.must_be(200, "the successor")?;
    stage.tell("over", format!("after {end}, with {first}: {old}; with {second}: {new}"));
    Ok(())
}

/// Regenerates a token, and sets the end of its previous value.
async fn regenerated(stage: &Stage<'_>) -> Told {
    const LEFT: SignedDuration = SignedDuration::from_secs(8);
    let first = stage.served(LASTING, 1).await?;
    let end = Timestamp::from_second(Timestamp::now().as_second()).map_err(|error| error.to_string())? + LEFT;
    let asked = json!({"regenerate": {"id": "leak", "previous": {"at": end}}});
    stage.tell("asked", format!("{}, spec: {asked}", stage.change(LASTING, &asked)?));
    let second = stage.served(LASTING, 2).await?;
    let stands = end_of(stage, LASTING, 1).await?;
    if stands != end {
        return Err(format!("{first} ends at {stands}, not at {end}"));
    }
    let new = stage.answered(Some(&second), 200).await?;
    stage.tell("renewed", format!("Secret {LASTING} holds {second}: {new}; {first} is valid until {end}"));
    let old = stage.answered(Some(&first), 401).await?;
    if Timestamp::now() < end {
        return Err(format!("{first} was refused before its end, {end}"));
    }
    stage.tell("over", format!("after {end}, with {first}: {old}"));
    Ok(())
}

/// Claims a value that is shown once. Its Secret is then deleted, and the value stays valid.
async fn shown_once(stage: &Stage<'_>) -> Told {
    let only = stage.served(ONCE, 1).await?;
    let until = stage.condition(ONCE, "Published", "Active").await?.ok_or("the condition Published is not Active")?;
    stage.tell("shown", format!("ApiToken {ONCE}, {until}"));
    let claimed = format!("tokenry.dev/claimed={}", only.record.id);
    stage.tell("claimed", format!("{}: {claimed}", stage.kubectl(&["annotate", "secret", ONCE, &claimed])?));
    let said = async || {
        let said = stage.condition(ONCE, "Published", "Claimed").await?;
        Ok(said.zip(stage.secret(ONCE).await?.is_none().then_some(())))
    };
    let (said, ()) = eventually("the Secret is gone and status says so", said).await?;
    let accepted = stage.ask(Some(&only)).await?;
    accepted.must_be(200, "the value that was claimed")?;
    stage.tell("once", format!("{said}\nSecret {ONCE} is gone; with {only}: {accepted}"));
    Ok(())
}

async fn revoked(stage: &Stage<'_>) -> Told {
    let last = eventually("the Secret holds what is on record", async || stage.held(BRIEF).await).await?;
    stage.tell("revoked", stage.change(BRIEF, &json!({"revoked": true}))?);
    let refused = stage.answered(Some(&last), 401).await?;
    stage.tell("refused", format!("with {last}: {refused}"));
    let ended = async || {
        let said = stage.condition(BRIEF, "Ready", "Revoked").await?;
        Ok(said.zip(stage.secret(BRIEF).await?.is_none().then_some(())))
    };
    let (said, ()) = eventually("the Secret is gone and status says so", ended).await?;
    stage.tell("ended", format!("ApiToken {BRIEF}, {said}; Secret {BRIEF} is gone"));
    Ok(())
}

/// Makes the endpoint internal, so that nothing leads to the API from outside. Then exposes the API again.
async fn narrowed(stage: &Stage<'_>) -> Told {
    let token = eventually("the Secret holds the value on record", async || stage.held(LASTING).await).await?;
    let internal = json!({"spec": {"manager": {"endpoints": [{"name": "admin", "type": "internal"}]}}});
    let patch = ["patch", "instance", INSTANCE, "--type", "merge", "--patch", &internal.to_string()];
    stage.tell("narrowed", format!("{}: {internal}", stage.kubectl(&patch)?));
    let gone = stage.answered(Some(&token), 404).await?;
    eventually("Ingress and Middleware are gone", async || Ok(led_by(stage)?.is_empty().then_some(()))).await?;
    stage.tell("gone", format!("with {token}: {gone} from Traefik; no Ingress and no Middleware is left"));
    stage.tell("exposed", expose(stage)?);
    let back = stage.answered(Some(&token), 200).await?;
    stage.tell("accepted", format!("with {token}: {back}"));
    Ok(())
}

/// Shows that a user with permission to write tokens cannot give a role to a token.
async fn forbidden(stage: &Stage<'_>) -> Told {
    let role = format!("--clusterrole={NAMESPACE}-edit");
    stage.kubectl(&["create", "rolebinding", VISITOR, &role, "--user", VISITOR])?;
    let token = |role: Option<&str>| {
        let mut spec = json!({"instanceRef": {"name": INSTANCE}, "owner": format!("user:{VISITOR}")});
        role.into_iter().for_each(|role| spec["role"] = role.into());
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": VISITOR}, "spec": spec})
    };
    let made = async || Ok(stage.attempt(VISITOR, &token(None)).ok());
    let made = eventually("a user with the edit role can create a token", made).await?;
    let refused = async || Ok(stage.attempt(VISITOR, &token(Some("admin"))).err());
    let refused = eventually("the same user cannot give the token a role", refused).await?;
    let (_, why) = refused.split_once("denied request: ").ok_or(format!("another refusal than expected: {refused}"))?;
    stage.tell("forbidden", format!("as user {VISITOR}, without a role: {made}\nwith role admin: {why}"));
    Ok(())
}

/// Shows that the verifier can write only `status.use`. It has permission to patch the status, and becomes ready only
/// when the admission policies reject its other writes.
async fn guarded(stage: &Stage<'_>) -> Told {
    eventually("the verifier is ready", async || stage.verifier.is_ready().await).await?;
    stage.tell("guarded", "the verifier is ready, because the admission policies reject its attempt to write a record");
    Ok(())
}

/// The time at which a generation ends, from its record.
async fn end_of(stage: &Stage<'_>, token: &str, generation: i64) -> Told<Timestamp> {
    let record = stage.record(token, generation).await?;
    let end = record.as_ref().and_then(Record::end);
    end.ok_or_else(|| format!("the records of {token} have no end of generation {generation}"))
}

/// Describes a record in one line.
fn about(record: &Record) -> String {
    let Record { generation, id, sha256, .. } = record;
    let until = record.end().map_or("for ever".into(), |end| format!("until {end}"));
    format!("generation {generation}, id {id:.6}…, SHA-256 {:.8}…, {until}", sha256.to_string())
}
