//! The rights that a command needs, each with the grant that gives it. So a refusal names all that are missing at once.

use k8s_openapi::api::authentication::v1::UserInfo;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use super::{allowed, view};
use crate::{
    cli::{
        Error,
        connection::Workplace,
        grant::AdvisedRight,
        lacking::{self, LackedRight},
    },
    crd::{
        ApiToken, GROUP, name,
        subject::{SubjectKind, Who, canonical, of_username},
    },
    outside::{
        Refusal, Verb,
        desk::Intent,
        rights::{PlacedRight, Right},
    },
};

/// A right, and the words of `kubectl tokenry grant` that give it.
#[derive(Clone, Debug)]
pub(super) struct GrantableRight {
    /// The right.
    pub(super) right: PlacedRight,
    /// The words.
    pub(super) words: Vec<String>,
}

impl GrantableRight {
    /// A right in a namespace, on the object of this name or on all of them.
    pub(super) fn new(right: Right, namespace: &str, name: Option<&str>, words: &[&str]) -> Self {
        let right = PlacedRight { right, namespace: namespace.to_owned(), name: name.map(str::to_owned) };
        Self { right, words: words.iter().map(|&word| word.to_owned()).collect() }
    }

    /// The right to read the value of a token in this Secret. `words` give it.
    pub(super) fn to_value(namespace: &str, secret: &str, words: &[&str]) -> Self {
        Self::new(Right::READ_VALUE, namespace, Some(secret), words)
    }
}

/// The rights of these that the user lacks.
pub(super) async fn lacked(
    place: &Workplace,
    needed: &[GrantableRight],
    intent: Intent,
) -> Result<Vec<LackedRight>, Refusal> {
    let rights: Vec<_> = needed.iter().map(|needed| needed.right.clone()).collect();
    let lacked = place.desk.lacked(&rights, intent).await?;
    let told = |GrantableRight { right, words }: &GrantableRight| {
        LackedRight::reviewed(right, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    Ok(needed.iter().filter(|needed| lacked.contains(&needed.right)).map(told).collect())
}

/// Succeeds if the user may change `token`, and has another right.
///
/// # Errors
/// A right is missing. The text names all rights that this change of the spec needs and that are missing.
pub(super) async fn review_change(
    place: &Workplace,
    token: &ApiToken,
    spec: &Value,
    other: GrantableRight,
) -> Result<(), Error> {
    let rights = [to_patch(token, &[]), other.clone()];
    if lacked(place, &rights, Intent::Do).await?.is_empty() {
        return Ok(());
    }
    match missing(place, token, spec, Some(other)).await? {
        missing if missing.is_empty() => Ok(()),
        missing => Err(lacking::lacks(place, "nothing was changed: ", &missing).await),
    }
}

/// Succeeds if the user may delete `object`, of this resource, and annotate it first if it `needs` that.
///
/// # Errors
/// A right is missing. The text names all that are missing, also that to act for its `owner`.
pub(super) async fn review_deletion(
    place: &Workplace,
    object: &impl Resource,
    resource: &'static str,
    owner: Option<&str>,
    needs: bool,
) -> Result<(), Error> {
    let (home, name) = (&place.namespace, object.name_any());
    let to = |verb| GrantableRight::new(Right::new(verb, GROUP, resource), home, Some(&name), &["--create"]);
    let rights: Vec<_> = needs.then(|| to(Verb::PATCH)).into_iter().chain([to(Verb::DELETE)]).collect();
    let mut missing = lacked(place, &rights, Intent::Do).await?;
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(owner) = owner {
        missing.extend(to_act(place, owner).await?);
    }
    Err(lacking::lacks(place, "nothing was deleted: ", &missing).await)
}

/// The rights that a write lacks, if there are several. A review finds those `missing`. An admission policy names one
/// in this text.
pub(super) async fn several(
    text: &str,
    missing: impl Future<Output = Result<Vec<LackedRight>, Refusal>>,
) -> Option<Vec<LackedRight>> {
    let advised = AdvisedRight::of(text)?.right;
    let mut missing = missing.await.ok()?;
    if !missing.contains(&advised) {
        missing.insert(0, advised);
    }
    (missing.len() > 1).then_some(missing)
}

/// The right to patch a token.
fn to_patch(token: &ApiToken, words: &[&str]) -> GrantableRight {
    let (namespace, name) = (token.namespace().unwrap_or_default(), token.name_any());
    GrantableRight::new(Right::new(Verb::PATCH, GROUP, "apitokens"), &namespace, Some(&name), words)
}

/// The rights that the user lacks for this change of the spec, and the `other` one if it is missing too. Admission
/// policies ask for a right on the owner of the token, and for rights on a new owner, role and policies. A revocation
/// needs a right on the owner or on one organization, which counts in the namespace of the Instance.
///
/// # Caveats
/// The rights to remove a role, and to widen organizations or projects, are not looked at.
pub(super) async fn missing(
    place: &Workplace,
    token: &ApiToken,
    spec: &Value,
    other: Option<GrantableRight>,
) -> Result<Vec<LackedRight>, Refusal> {
    let (keeper, organizations) = view::revocable_in(token);
    let organizations = if spec["revoked"] == true { organizations } else { Vec::new() };
    let name = token.name_any();
    // The right to revoke one token includes that on its organization.
    let words = if organizations.is_empty() { vec!["--create"] } else { vec!["--revoke-token", &name] };
    let mut missing = lacked(place, &[to_patch(token, &words)], Intent::Rehearse).await?;
    let may_patch = missing.is_empty();
    missing.extend(lacked(place, other.as_slice(), Intent::Rehearse).await?);
    match to_act(place, owner(token)).await? {
        Some(owner) if organizations.is_empty() => missing.push(owner),
        Some(_) => {
            let right = to_revoke(place, keeper, &organizations).await?;
            missing.extend(right.map(|right| if may_patch { right } else { right.along() }));
        }
        None => {}
    }
    if let Some(given) = given(token, spec) {
        missing.extend(lacked(place, &asked(place, &given).await?, Intent::Rehearse).await?);
    }
    Ok(missing)
}

/// The owner of a token. For a token that nobody owns, its maker counts.
pub(super) fn owner(token: &ApiToken) -> &str {
    let maker = token.annotations().get(name::CREATED_BY).map(String::as_str).filter(|maker| !maker.is_empty());
    view::holder(token).or(maker).unwrap_or("*")
}

/// The right to act for an owner, if the user lacks it.
async fn to_act(place: &Workplace, owner: &str) -> Result<Option<LackedRight>, Refusal> {
    if acts_for(&place.desk.user().await?, owner) {
        return Ok(None);
    }
    let right = Right::new(Verb::ASSIGN, GROUP, "owners");
    let right = GrantableRight::new(right, &place.namespace, Some(owner), &["--owner", owner]);
    Ok(lacked(place, &[right], Intent::Rehearse).await?.pop())
}

/// The right to revoke tokens of the first of these organizations, if the user has that right on none of them. It
/// counts in the namespace `keeper`.
async fn to_revoke(place: &Workplace, keeper: &str, organizations: &[&str]) -> Result<Option<LackedRight>, Refusal> {
    let right = Right::new(Verb::REVOKE, GROUP, "organizations");
    let to = |name: &&str| GrantableRight::new(right, keeper, Some(name), &["--revoke", name]);
    let rights: Vec<_> = organizations.iter().map(to).collect();
    let lacked = lacked(place, &rights, Intent::Rehearse).await?;
    Ok(if lacked.len() == rights.len() { lacked.into_iter().next() } else { None })
}

/// The token after this change of its spec, with only the new ones of its owner, role and policies.
fn given(token: &ApiToken, spec: &Value) -> Option<ApiToken> {
    let mut given = allowed::changed(token, spec)?;
    let (new, old) = (&mut given.spec, &token.spec);
    new.owner.take_if(|owner| old.owner.as_ref() == Some(owner));
    new.role.take_if(|role| old.role.as_ref() == Some(role));
    new.policies.retain(|policy| !old.policies.contains(policy));
    Some(given)
}

/// The rights that admission policies ask for: to give the role, to name the owner, and to join the policies.
pub(super) async fn asked(place: &Workplace, wanted: &ApiToken) -> Result<Vec<GrantableRight>, Refusal> {
    let (spec, home) = (&wanted.spec, &place.namespace);
    let instance = spec.instance_ref.name.as_str();
    let keeper = spec.instance_ref.namespace_or(home);
    let user = place.desk.user().await?;
    let me = of_username(user.username.as_deref().unwrap_or_default());
    // Only the user itself needs no right: a member of a group does not act for it.
    let is_me = |owner: &str| canonical(owner) == me;
    let named = |flag: &str, resource, namespace: &str, name: String| {
        let right = Right::new(Verb::ASSIGN, GROUP, resource);
        GrantableRight::new(right, namespace, Some(&name), &[flag, &name])
    };
    let role = spec.role.iter().map(|role| named("--role", "roles", keeper, format!("{instance}:{role}")));
    let owner = spec.owner.iter().map(|owner| owner.as_str()).filter(|owner| !is_me(owner));
    let owner = owner.map(|owner| named("--owner", "owners", home, owner.to_owned()));
    let policies = spec.policies.iter();
    let policies = policies.map(|policy| named("--policy", "policies", keeper, format!("{instance}:{policy}")));
    Ok(role.chain(owner).chain(policies).collect())
}

/// True if the user acts for an owner without a further right: it is the owner, or one of the group.
fn acts_for(user: &UserInfo, owner: &str) -> bool {
    let is_user = canonical(owner) == of_username(user.username.as_deref().unwrap_or_default());
    let group = Who::of(owner).filter(|who| who.kind == SubjectKind::Group);
    is_user || group.is_some_and(|group| user.groups.iter().flatten().any(|name| name == group.name))
}
