//! The rules of the token's Instances, as digests. The next pass compares them, and the event about permissions reports
//! a difference.

use super::{audience, observed::Observed, terms::CheckedTerms, world::World};
use crate::{
    access::{Bearer, Outlook},
    crd::{Instance, api_token::SeenRules},
};

/// The digests of the token's own Instance and of all audiences. An Instance with faulty rules keeps its digests. A
/// token that has ended is permitted nothing, so its digests stay.
pub(crate) fn seen(read: &Observed, outlook: Option<&Outlook<'_>>) -> Vec<SeenRules> {
    let before = &read.before().rules;
    let own = read.instance.as_deref().filter(|_| read.before().revocation.is_none());
    let (Some(own), Some(outlook)) = (own, outlook) else { return before.clone() };
    // The time at which groups get too old for an audience causes no pass.
    let bearer = || Bearer { at_home: false, fresh: true, ..outlook.bearer.clone() };
    let further = read.audiences.iter().zip(&read.audience_policies).filter_map(|(audience, policies)| {
        let audience = audience.as_ref()?;
        let Some(rules) = audience.rules() else {
            return before.iter().find(|known| is_of(known, audience)).cloned();
        };
        let policies: Vec<_> = policies.iter().map(|policy| &**policy).collect();
        Some(of(audience, &Outlook::of(rules, &policies, &bearer())))
    });
    [of(own, outlook)].into_iter().chain(further).collect()
}

/// The digests of the token's own Instance and of the audiences that are accepted after this pass.
pub(crate) fn accepted(world: &World, terms: &CheckedTerms) -> Vec<SeenRules> {
    let accepted = audience::accepted(world, terms);
    let is_accepted = |rules: &&SeenRules| {
        is_own(world, rules)
            || accepted.iter().any(|audience| (&audience.name, &audience.namespace) == (&rules.name, &rules.namespace))
    };
    world.owner.rules.iter().filter(is_accepted).cloned().collect()
}

/// True if the digests are those of the token's own Instance.
pub(crate) fn is_own(read: &Observed, rules: &SeenRules) -> bool {
    let own = &read.token.spec.instance_ref;
    (rules.name.as_str(), rules.namespace.as_str()) == (own.name.as_str(), own.namespace_or(read.namespace()))
}

fn is_of(rules: &SeenRules, instance: &Instance) -> bool {
    let meta = &instance.metadata;
    (Some(&rules.name), Some(&rules.namespace)) == (meta.name.as_ref(), meta.namespace.as_ref())
}

fn of(instance: &Instance, outlook: &Outlook<'_>) -> SeenRules {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    SeenRules {
        name: text(&instance.metadata.name),
        namespace: text(&instance.metadata.namespace),
        requests: outlook.rules.requests.clone(),
        rights: outlook.rights(),
    }
}
