//! Properties that every decision has, for any Instance, policies, token and request.

use std::sync::Arc;

use http::HeaderMap;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{
    Bearer, Ground, Outlook, Path, Policies, Policy, Request, Rules, Ruling, judge, judge::decide, judge_unasked,
};
use crate::crd::{AccessPolicy, Account, ApiToken, Instance, name};

/// An Instance, policies, a token and its account.
pub(crate) struct Drawn {
    pub rules: Rules,
    pub policies: Vec<Policy>,
    pub bearer: Bearer<'static>,
}

impl Drawn {
    /// The policies, found by their members.
    pub(crate) fn policies(&self) -> Policies {
        self.policies.iter().cloned().map(Arc::new).collect()
    }

    /// The decision on a request with this method and the path `/x`.
    pub(crate) fn ground(&self, method: &str) -> Ground {
        let headers = HeaderMap::new();
        let request = Request { method, path: Path::parse("/x").ok(), query: "", headers: &headers };
        judge(&self.rules, &self.policies(), &self.bearer, &request, &mut ()).ground
    }
}

/// The uid of the token, and that of the account.
const UIDS: [&str; 2] = ["token-uid", "account-uid"];

/// Builds a world from specs: an Instance `eem`, policies with their names, and a token and an account `ci` in the
/// namespace `events`. Every policy that lists the token or the account has bound it. The token names the account,
/// unless its spec has `serviceAccountRef: null`. A field `createdBy` of its spec is the stamp of its maker.
pub(crate) fn world(instance: &Value, policies: &Value, token: &Value, account: &Value) -> Drawn {
    let object = |kind: &str, name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": "events"});
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    let referring = |spec: &Value| {
        let mut spec = spec.clone();
        spec["instanceRef"] = json!({"name": "eem"});
        spec
    };
    let instance: Instance = serde_json::from_value(object("Instance", "eem", instance.clone())).unwrap();
    let mut named = referring(token);
    if named.get("serviceAccountRef").is_none() {
        named["serviceAccountRef"] = json!({"name": "ci"});
    }
    let maker = named["createdBy"].as_str().map(str::to_owned);
    let mut token: ApiToken = serde_json::from_value(object("ApiToken", "ci", named)).unwrap();
    token.metadata.annotations = maker.map(|maker| [(name::CREATED_BY.to_owned(), maker)].into());
    let mut account: Account = serde_json::from_value(object("ServiceAccount", "ci", referring(account))).unwrap();
    (token.metadata.uid, account.metadata.uid) = (Some(UIDS[0].into()), Some(UIDS[1].into()));
    let bound = ["token:events/ci", "account:events/ci"].into_iter().zip(UIDS);
    let bound: Vec<_> = bound.map(|(member, uid)| json!({"member": member, "uid": uid})).collect();
    let policies = policies.as_array().unwrap().iter().map(|policy| {
        let name = policy["name"].as_str().unwrap();
        let mut object = object("AccessPolicy", name, referring(policy));
        object["status"] = json!({ "members": bound });
        Policy::of(&serde_json::from_value::<AccessPolicy>(object).unwrap())
    });
    Drawn { policies: policies.collect(), rules: Rules::of(&instance).unwrap(), bearer: Bearer::of(&token, &account) }
}

/// Everything that a decision depends on, as a user would write it.
#[derive(Clone, Debug)]
struct Draw {
    instance: Value,
    policies: Vec<Value>,
    token: Value,
    account: Value,
    method: &'static str,
    path: &'static str,
    organization: Option<&'static str>,
}

impl Draw {
    fn ruling(&self) -> Ruling {
        let world = self.drawn();
        let mut headers = HeaderMap::new();
        if let Some(name) = self.organization {
            headers.append("x-organization", name.parse().unwrap());
        }
        let request = Request { method: self.method, path: Path::parse(self.path).ok(), query: "", headers: &headers };
        judge(&world.rules, &world.policies(), &world.bearer, &request, &mut ())
    }

    fn ground(&self) -> Ground {
        self.ruling().ground
    }

    fn drawn(&self) -> Drawn {
        world(&self.instance, &Value::Array(self.policies.clone()), &self.token, &self.account)
    }

    fn has_default(&self) -> bool {
        self.instance["tokens"].get("defaultRole").is_some()
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut draw = self.clone();
        change(&mut draw);
        draw
    }
}

const ROLES: [&str; 3] = ["viewer", "contributor", "admin"];
const ACTIONS: [&str; 5] = ["*", "*:read", "topics:*", "topics:write", "clusters:read"];
const DEFAULTS: [&str; 4] = ["viewer", "contributor", "admin", "Owner"];
const REMOVED: [&str; 3] = ["Revoke", "Suspend", "Keep"];
const FORMER: [&str; 3] = ["user:a", "user:b", "serviceaccount:events/x"];
const OWNERS: [&str; 4] = ["user:a", "user:b", "team:t", "serviceaccount:events/x"];
const MEMBERS: [&str; 7] =
    ["user:a", "user:b", "team:t", "token:events/ci", "account:events/*", "token:other/*", "group:g"];
const PATHS: [&str; 6] = ["/topics/x", "/clusters", "/secret/x", "/other", "/topics/..%2fsecret", "/p/q"];

fn given(name: &'static str, of: &'static [&'static str]) -> impl Strategy<Value = Value> {
    option::of(select(of)).prop_map(move |given| given.map_or(json!({}), |given| json!({ name: given })))
}

fn merged(parts: impl IntoIterator<Item = Value>) -> Value {
    let fields = parts.into_iter().flat_map(|part| part.as_object().unwrap().clone());
    Value::Object(fields.collect())
}

fn organizations() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"organizations": {"all": true}})),
        vec(select(&["acme", "eem"][..]), 0..3).prop_map(|mut listed| {
            listed.dedup();
            json!({"organizations": {"listed": listed}})
        }),
    ]
}

fn statement() -> impl Strategy<Value = Value> {
    let role = select(&ROLES[..]).prop_map(|role| json!({"role": role}));
    let actions = vec(select(&ACTIONS[..]), 1..3).prop_map(|actions| json!({"actions": actions}));
    (select(&["Allow", "Deny"][..]), prop_oneof![role, actions])
        .prop_map(|(effect, what)| merged([json!({"effect": effect}), what]))
}

fn policy() -> impl Strategy<Value = Value> {
    (vec(select(&MEMBERS[..]), 0..3), vec(statement(), 1..3))
        .prop_map(|(members, statements)| json!({"members": members, "statements": statements}))
}

fn member() -> impl Strategy<Value = Value> {
    (select(&OWNERS[..]), select(&ROLES[..]), organizations())
        .prop_map(|(subject, role, reach)| merged([json!({"subject": subject, "role": role}), reach]))
}

fn draw() -> impl Strategy<Value = Draw> {
    let instance = (
        select(&["Roles", "Roles", "Roles", "Authenticated"][..]),
        select(&["None", "Members"][..]),
        vec(member(), 0..5),
        // Each list has all organizations that members list, so that no member is a fault.
        select(vec![json!(["acme", "eem"]), json!(["acme", "eem", "x"]), json!(["*"])]),
        (given("minimumRole", &ROLES), given("defaultRole", &DEFAULTS), given("onOwnerRemoved", &REMOVED)),
        option::weighted(0.2, select(&FORMER[..])),
    );
    let instance = instance.prop_map(|(authorization, ceiling, members, organizations, tokens, former)| {
        let mut tokens = merged([tokens.0, tokens.1, tokens.2]);
        if ceiling == "None" && tokens["defaultRole"] == "Owner" {
            tokens.as_object_mut().unwrap().remove("defaultRole");
        }
        json!({
            "organizations": organizations,
            "api": {
                "authorization": authorization,
                "organizationFrom": {"header": "X-Organization"},
                "actions": [
                    {"action": "topics:write", "methods": ["POST"], "paths": ["/topics/**"]},
                    {"action": "topics:read", "paths": ["/topics/**"]},
                    {"action": "clusters:read", "methods": ["GET"], "paths": ["/clusters"]},
                ],
                "excluded": [{"paths": ["/secret/**"]}],
            },
            "teams": [{"name": "t", "users": ["b"]}],
            "ceiling": ceiling, "members": members, "tokens": tokens, "formerOwners": Vec::from_iter(former),
        })
    });
    let policies = vec(policy(), 0..4).prop_map(|policies| {
        let named = policies.into_iter().enumerate();
        named.map(|(index, policy)| merged([policy, json!({"name": format!("p{index}")})])).collect::<Vec<_>>()
    });
    let token = (
        given("owner", &OWNERS),
        given("role", &ROLES),
        organizations(),
        any::<bool>().prop_map(|own| if own { json!({"serviceAccountRef": null}) } else { json!({}) }),
        any::<bool>(),
    );
    let token = token.prop_map(|(a, b, c, d, is_made)| {
        let maker = if is_made { a["owner"].clone() } else { json!("user:maker") };
        merged([a, b, c, d, json!({ "createdBy": maker })])
    });
    let account = (given("role", &ROLES), organizations(), given("owner", &OWNERS));
    let account = account.prop_map(|(a, b, c)| merged([a, b, c]));
    let asked = (select(&["GET", "POST"][..]), select(&PATHS[..]), option::of(select(&["acme", "eem", "x"][..])));
    (instance, policies, token, account, asked).prop_map(|(instance, policies, token, account, asked)| Draw {
        instance,
        policies,
        token,
        account,
        method: asked.0,
        path: asked.1,
        organization: asked.2,
    })
}

/// True if the token names no account.
fn is_own(token: &Value) -> bool {
    token.get("serviceAccountRef").is_some_and(Value::is_null)
}

/// Weakens a role by one rank. The weakest role is removed.
fn weaker(of: &mut Value) {
    let at = ROLES.iter().position(|role| of["role"] == json!(role));
    match at {
        Some(0) => drop(of.as_object_mut().unwrap().remove("role")),
        Some(at) => of["role"] = json!(ROLES[at - 1]),
        None => {}
    }
}

proptest! {
    #![proptest_config(crate::token::cases::so_many(2048))]

    #[test]
    fn a_further_deny_never_allows_more(draw in draw(), mut extra in policy()) {
        for statement in extra["statements"].as_array_mut().unwrap() {
            statement["effect"] = json!("Deny");
        }
        extra["name"] = json!("extra");
        let denied = draw.with(|draw| draw.policies.push(extra));
        prop_assert!(draw.ground().allows() || !denied.ground().allows());
    }

    #[test]
    fn a_decision_that_does_not_read_the_path_is_the_same_without_it(
        draw in draw(), target in "/(topics|a%2f(b|%2e)|x%2Fy/c|[.]|;|//|x[.]|%zz|é){0,4}", reads in any::<bool>(),
    ) {
        let draw = draw.with(|draw| {
            let unguarded = if reads { json!([{"paths": ["/topics"]}]) } else { json!([]) };
            draw.instance["api"] = json!({"organizationFrom": {"header": "X-Organization"}, "unguarded": unguarded});
        });
        let (world, mut headers) = (draw.drawn(), HeaderMap::new());
        let named = draw.organization.map(|name| name.parse().unwrap());
        headers.extend(named.map(|name| (http::HeaderName::from_static("x-organization"), name)));
        let decided = |path: Option<Path>| {
            let request = Request { method: draw.method, path, query: "", headers: &headers };
            (judge(&world.rules, &world.policies(), &world.bearer, &request, &mut ()), world.rules.unguarded(&request))
        };
        prop_assert_eq!(world.rules.reads_path(), reads);
        prop_assert!(reads || decided(Path::parse(&target).ok()) == decided(None));
    }

    #[test]
    fn policies_that_are_found_by_their_members_decide_as_a_walk_over_all_of_them(
        draw in draw(), groups in vec(select(&["g", "h"][..]), 0..3), fresh in any::<bool>(), at_home in any::<bool>(),
        joined in vec(select(&["p0", "p1", "p2", "other"][..]), 0..3), of_account in vec(select(&["p0", "p1"][..]), 0..2),
        order in any::<prop::sample::Index>(), removed in vec(policy(), 0..3),
    ) {
        let draw = draw.with(|draw| {
            (draw.token["policies"], draw.account["policies"]) = (json!(joined), json!(of_account));
        });
        let mut world = draw.drawn();
        let groups = groups.iter().map(|&name| name.into()).collect::<Vec<_>>().into();
        world.bearer = Bearer { groups, fresh, at_home, ..world.bearer };
        // The policies came in another order, and replaced or outlived others.
        let mut found = Policies::default();
        let earlier: Vec<_> = removed.into_iter().enumerate().map(|(n, policy)| merged([policy, json!({"name": format!("p{n}")})])).collect();
        let earlier = super::properties::world(&json!({}), &json!(earlier), &json!({}), &json!({})).policies;
        earlier.iter().for_each(|policy| found.add(Arc::new(policy.clone())));
        let mut all = world.policies.clone();
        if !all.is_empty() {
            let middle = order.index(all.len());
            all.rotate_left(middle);
        }
        all.iter().for_each(|policy| found.add(Arc::new(policy.clone())));
        earlier[earlier.len().min(all.len())..].iter().for_each(|policy| found.remove(policy));
        let mut headers = HeaderMap::new();
        headers.extend(draw.organization.map(|name| (http::HeaderName::from_static("x-organization"), name.parse().unwrap())));
        let request = Request { method: draw.method, path: Path::parse(draw.path).ok(), query: "", headers: &headers };
        let [mut by_member, mut by_walk] = [Vec::new(), Vec::new()];
        let ruling = decide(&world.rules, (&found, Policies::about), &world.bearer, &request, &mut by_member);
        let walked = decide(&world.rules, (&found, Policies::all), &world.bearer, &request, &mut by_walk);
        prop_assert_eq!((ruling, by_member), (walked, by_walk));
        prop_assert_eq!(found.all(&Default::default()).len(), all.len());
    }

    #[test]
    fn to_narrow_anything_never_allows_more(draw in draw(), at in any::<prop::sample::Index>()) {
        let gone = |list: &mut Vec<Value>| if !list.is_empty() { drop(list.remove(at.index(list.len()))) };
        let narrowed = [
            // The account that was made for a token without a role says nothing about the default role.
            draw.with(|draw| if draw.account["role"] != json!("viewer") || !draw.has_default() { weaker(&mut draw.account) }),
            // A token that names an account but no role has the account's role. Any other token without a role has
            // the default role, or none.
            draw.with(|draw| if draw.token["role"] != json!("viewer") || (is_own(&draw.token) && !draw.has_default()) {
                weaker(&mut draw.token)
            }),
            draw.with(|draw| if draw.token.get("role").is_none() { draw.token["role"] = json!("viewer") })
                .with(|narrowed| if is_own(&draw.token) { narrowed.token = draw.token.clone() }),
            draw.with(|draw| if !draw.has_default() && draw.instance["formerOwners"] == json!([]) {
                draw.token["serviceAccountRef"] = Value::Null
            }),
            draw.with(|draw| gone(draw.instance["members"].as_array_mut().unwrap())),
            draw.with(|draw| draw.instance["members"].as_array_mut().unwrap().iter_mut().for_each(|member| {
                if member["role"] != json!("viewer") { weaker(member) }
            })),
            draw.with(|draw| draw.instance["teams"] = json!([])),
            draw.with(|draw| draw.instance["ceiling"] = json!("Members")),
            draw.with(|draw| draw.instance["api"]["authorization"] = json!("Roles")),
            draw.with(|draw| draw.instance["tokens"] = json!({"minimumRole": "admin"})),
            draw.with(|draw| draw.account["organizations"] = json!({"listed": []})),
            draw.with(|draw| draw.instance["organizations"] = json!(["acme", "eem"])),
            draw.with(|draw| draw.token["organizations"] = json!({"listed": []})),
            draw.with(|draw| draw.instance["formerOwners"] = json!(FORMER)),
            draw.with(|draw| draw.token["createdBy"] = Value::Null),
            draw.with(|draw| drop(draw.instance["tokens"].as_object_mut().unwrap().remove("defaultRole"))),
            draw.with(|draw| draw.policies.retain(|policy| policy["statements"].as_array().unwrap().iter().any(|said| said["effect"] == "Deny"))),
        ];
        for (index, narrowed) in narrowed.iter().enumerate() {
            // Without the team, a policy that denies may lose a member, so more may be permitted.
            let fewer_denied = index == 6 && !draw.policies.is_empty();
            prop_assert!(fewer_denied || draw.ground().allows() || !narrowed.ground().allows(), "{index}: {narrowed:?}");
        }
    }

    #[test]
    fn the_ceiling_of_the_owner_is_never_exceeded(draw in draw()) {
        let draw = draw.with(|draw| {
            draw.instance["ceiling"] = json!("Members");
            draw.instance["api"]["authorization"] = json!("Roles");
        });
        // The most that a token of this owner could do, with the strongest role and without policies.
        let own = draw.with(|draw| {
            draw.policies.clear();
            draw.account = json!({"owner": draw.account["owner"], "role": "admin"});
            let own = if is_own(&draw.token) { json!({"serviceAccountRef": null}) } else { json!({}) };
            draw.token = merged([json!({"owner": draw.token["owner"], "role": "admin"}), own]);
        });
        prop_assert!(!draw.ground().allows() || own.ground() == Ground::ByRole);
    }

    #[test]
    fn what_opens_nothing_is_permitted_nothing(draw in draw()) {
        let world = draw.drawn();
        let closed = Outlook::of(&world.rules, &world.policies.iter().collect::<Vec<_>>(), &world.bearer).opening();
        prop_assert!(closed.is_ok() || !draw.ground().allows(), "{closed:?}");
    }

    #[test]
    fn a_request_is_permitted_only_to_a_token_that_is_without_one_and_by_the_role_that_is_known_then(draw in draw()) {
        let (world, ruling) = (draw.drawn(), draw.ruling());
        let unasked = judge_unasked(&world.rules, &world.policies(), &world.bearer);
        prop_assert!(unasked.ground.allows() || !ruling.ground.allows(), "{unasked:?}");
        prop_assert!(unasked.role.is_none() || !ruling.ground.allows() || unasked.role == ruling.role, "{unasked:?}");
    }

    #[test]
    fn the_list_of_organizations_refuses_all_others_and_changes_nothing_else(draw in draw()) {
        let any = draw.with(|draw| draw.instance["organizations"] = json!(["*"])).ruling();
        let listed = draw.instance["organizations"].as_array().unwrap();
        let is_listed = draw.organization.is_none_or(|name| listed.contains(&json!(name)) || *listed == [json!("*")]);
        if is_listed {
            prop_assert_eq!(draw.ruling(), any);
        } else {
            prop_assert!(!draw.ground().allows());
        }
    }

    #[test]
    fn a_default_role_is_given_at_home_and_the_role_of_the_owner_to_the_token_that_it_made(draw in draw()) {
        let mut world = draw.drawn();
        let unnamed = draw.token.get("role").is_none() && is_own(&draw.token);
        let role = |world: &Drawn| Outlook::of(&world.rules, &[], &world.bearer).effective().role;
        let made = world.bearer.owner.is_some() && draw.token["createdBy"] == draw.token["owner"];
        let lent = draw.has_default() && (made || draw.instance["tokens"]["defaultRole"] != "Owner");
        prop_assert!(!unnamed || lent || role(&world).is_none());
        world.bearer.at_home = false;
        prop_assert!(!unnamed || role(&world).is_none());
    }

    #[test]
    fn a_token_behind_which_somebody_has_left_is_permitted_nothing(draw in draw()) {
        let world = draw.drawn();
        let keeps = draw.instance["ceiling"] == "None" && draw.instance["tokens"]["onOwnerRemoved"] == "Keep";
        prop_assert!(world.rules.former_owner(&world.bearer).is_none() || keeps || !draw.ground().allows());
    }

    #[test]
    fn what_permits_a_request_is_told(draw in draw()) {
        let world = draw.drawn();
        let told = Outlook::of(&world.rules, &world.policies.iter().collect::<Vec<_>>(), &world.bearer).effective();
        prop_assert!(draw.ground() != Ground::ByRole || told.role.is_some());
        prop_assert!(draw.ground() != Ground::ByPolicy || !told.policies.is_empty());
    }

    #[test]
    fn the_order_of_members_policies_and_statements_does_not_matter(draw in draw()) {
        let turned = draw.with(|draw| {
            draw.policies.reverse();
            draw.instance["members"].as_array_mut().unwrap().reverse();
            for policy in &mut draw.policies {
                policy["members"].as_array_mut().unwrap().reverse();
                policy["statements"].as_array_mut().unwrap().reverse();
            }
        });
        prop_assert_eq!(draw.ruling(), turned.ruling());
    }

    #[test]
    fn what_is_excluded_or_has_no_clear_path_is_never_permitted(draw in draw()) {
        let secret = draw.path.starts_with("/secret") || draw.path.contains("%2f");
        prop_assert!(!secret || !draw.ground().allows());
    }
}
