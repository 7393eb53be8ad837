//! The tokens by the ids of their records. Each is joined with its account here, so a verdict does not look for the
//! account by its name.

use std::{collections::BTreeMap, sync::Arc};

use smol_str::SmolStr;

use super::{AccountEntry, Entries, EntryChange, Key, TokenEntry, Versioned, table::Table};
use crate::token::Id;

/// A token, with the account whose name the token is bound to.
#[derive(Clone)]
pub struct BoundToken {
    /// The token.
    pub token: Arc<Versioned<TokenEntry>>,
    /// `None`: the token is not bound, or no account has this name. The account may have another uid.
    pub account: Option<Arc<Versioned<AccountEntry>>>,
}

impl BoundToken {
    fn of(token: &Arc<Versioned<TokenEntry>>, accounts: &Entries<AccountEntry>) -> Self {
        Self { token: token.clone(), account: bound(token, accounts).cloned() }
    }
}

/// The account whose name the token is bound to.
pub(super) fn bound<'a>(
    token: &Versioned<TokenEntry>,
    accounts: &'a Entries<AccountEntry>,
) -> Option<&'a Arc<Versioned<AccountEntry>>> {
    accounts.shared(&token.key.namespace, &token.entry.account.as_ref()?.name)
}

/// The tokens by the ids of their records.
#[derive(Clone, Default)]
pub(super) struct Ids {
    held: Table<BoundToken>,
    /// The ids that records of several tokens have.
    ambiguous: imbl::OrdSet<Id>,
    /// The accounts with tokens of other names: the key of the account, and the name of such a token. The token that
    /// has the name of its account is found by that name.
    strangers: imbl::OrdSet<(Key, SmolStr)>,
}

impl Ids {
    /// The tokens that have a record of this id.
    pub(super) fn like(&self, id: Id) -> impl Iterator<Item = &BoundToken> {
        self.held.like(id).filter(move |held| held.token.entry.has(id))
    }

    /// The ids that records of several tokens have.
    pub(super) fn ambiguous(&self) -> &imbl::OrdSet<Id> {
        &self.ambiguous
    }

    /// Follows a change of a token.
    pub(super) fn follow(&mut self, change: &EntryChange<TokenEntry>, accounts: &Entries<AccountEntry>) {
        let EntryChange { old, new } = change;
        if let Some(old) = old {
            ids(old).for_each(|id| _ = self.held.put(id, |held| held.token.key == old.key, None));
            self.part(old);
        }
        if let Some(new) = new {
            self.join(new, accounts);
            self.meet(new);
        }
        { old.iter().chain(new) }.flat_map(ids).for_each(|id| self.count(id));
    }

    /// Follows the changes of tokens by a list.
    pub(super) fn follow_list(&mut self, changes: &[EntryChange<TokenEntry>], accounts: &Entries<AccountEntry>) {
        let (new, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.old.is_none());
        let new: Vec<_> = new.into_iter().filter_map(|change| change.new.as_ref()).collect();
        let mut added = Vec::with_capacity(new.iter().map(|token| token.entry.generations.len()).sum());
        for token in &new {
            let joined = BoundToken::of(token, accounts);
            // A token is in the table once for each hash, or it would seem to be several.
            let own: BTreeMap<_, _> = ids(token).map(|id| (self.held.hash(id), id)).collect();
            added.extend(own.into_values().map(|id| (id, joined.clone())));
        }
        self.held.extend(added);
        for token in new {
            self.meet(token);
            ids(token).for_each(|id| self.count(id));
        }
        others.into_iter().for_each(|change| self.follow(change, accounts));
    }

    /// Joins the tokens that are bound to an account with it again, after a change of the account.
    pub(super) fn follow_account(
        &mut self,
        change: &EntryChange<AccountEntry>,
        tokens: &Entries<TokenEntry>,
        accounts: &Entries<AccountEntry>,
    ) {
        let Some(account) = change.key() else { return };
        let first = (account.clone(), SmolStr::default());
        let strangers = self.strangers.range(first..).take_while(|(key, _)| key == account);
        let strangers: Vec<_> = strangers.map(|(_, token)| token.clone()).collect();
        // Many tokens may share the account. They keep its entry before a change that is no news.
        if !strangers.is_empty() && !change.is_news() {
            return;
        }
        let names = strangers.iter().chain([&account.name]);
        names.filter_map(|name| tokens.shared(&account.namespace, name)).for_each(|token| self.join(token, accounts));
    }

    /// Joins all tokens again, after a list of accounts.
    pub(super) fn follow_accounts(
        &mut self,
        changes: &[EntryChange<AccountEntry>],
        tokens: &Entries<TokenEntry>,
        accounts: &Entries<AccountEntry>,
    ) {
        if Table::<BoundToken>::are_few(changes.len(), self.held.len()) {
            changes.iter().for_each(|change| self.follow_account(change, tokens, accounts));
        } else {
            self.held.renew(|held| BoundToken::of(&held.token, accounts));
        }
    }

    fn join(&mut self, token: &Arc<Versioned<TokenEntry>>, accounts: &Entries<AccountEntry>) {
        let joined = BoundToken::of(token, accounts);
        for id in ids(token) {
            self.held.put(id, |held| held.token.key == token.key, Some(joined.clone()));
        }
    }

    /// Notes if several tokens have a record of this id.
    fn count(&mut self, id: Id) {
        let is_ambiguous = self.like(id).nth(1).is_some();
        match is_ambiguous {
            true => _ = self.ambiguous.insert(id),
            false => _ = self.ambiguous.remove(&id),
        }
    }

    fn meet(&mut self, token: &Versioned<TokenEntry>) {
        if let Some(stranger) = stranger(token) {
            self.strangers.insert(stranger);
        }
    }

    fn part(&mut self, token: &Versioned<TokenEntry>) {
        if let Some(stranger) = stranger(token) {
            self.strangers.remove(&stranger);
        }
    }
}

/// The ids of a token's records.
fn ids(token: &Arc<Versioned<TokenEntry>>) -> impl Iterator<Item = Id> {
    token.entry.generations.iter().map(|known| known.id)
}

/// A token that is bound to an account of another name: the key of the account, and the name of the token.
fn stranger(token: &Versioned<TokenEntry>) -> Option<(Key, SmolStr)> {
    let Key { namespace, name } = &token.key;
    let bound = token.entry.account.as_ref().filter(|bound| bound.name != *name)?;
    Some((Key { namespace: namespace.clone(), name: bound.name.clone() }, name.clone()))
}

#[cfg(test)]
impl Ids {
    pub(super) fn is_empty(&self) -> bool {
        self.held.len() == 0 && self.ambiguous.is_empty() && self.strangers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crd::{Account, ApiToken},
        verifier::index::{Doubted, Index, Indexed},
    };
    use proptest::{collection::vec, option, prelude::*};
    use serde_json::{Value, json};

    /// The number of tokens, accounts and ids.
    const ALL: usize = 4;

    /// A token: its ids, and the account that it is bound to.
    type TokenFacts = (Vec<usize>, Option<usize>);

    /// News about tokens or accounts. `None`: it was deleted.
    #[derive(Clone, Debug)]
    enum News {
        Token(usize, Option<TokenFacts>),
        Account(usize, Option<bool>),
        /// The account cannot be read.
        Unread(usize),
        Tokens(Vec<Option<TokenFacts>>),
        Accounts(Vec<Option<bool>>),
    }

    fn news() -> impl Strategy<Value = News> {
        let facts = || option::weighted(0.8, (vec(0..ALL, 0..3), option::weighted(0.8, 0..ALL)));
        prop_oneof![
            6 => (0..ALL, facts()).prop_map(|(nth, facts)| News::Token(nth, facts)),
            4 => (0..ALL, option::weighted(0.8, any::<bool>())).prop_map(|(nth, active)| News::Account(nth, active)),
            1 => (0..ALL).prop_map(News::Unread),
            1 => vec(facts(), ALL).prop_map(News::Tokens),
            1 => vec(option::weighted(0.8, any::<bool>()), ALL).prop_map(News::Accounts),
        ]
    }

    fn id(nth: usize) -> Id {
        Id::of(&format!("{nth:016}")).unwrap()
    }

    fn object<K: serde::de::DeserializeOwned>(kind: &str, nth: usize, spec: &Value, status: &Value) -> K {
        let metadata = json!({"namespace": "a", "name": nth.to_string()});
        let head = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata});
        let mut object = head;
        (object["spec"], object["status"]) = (spec.clone(), status.clone());
        serde_json::from_value(object).unwrap()
    }

    fn token(nth: usize, (ids, account): TokenFacts) -> ApiToken {
        let record = |nth: &usize| {
            json!({"generation": 1, "id": &*id(*nth), "sha256": "0".repeat(64), "state": "Active",
                "createdAt": "2026-01-01T00:00:00Z"})
        };
        let records: Vec<_> = ids.iter().map(record).collect();
        let account = account.map(|nth| json!({"name": nth.to_string(), "uid": "u"}));
        let status = json!({"records": records, "account": account});
        object("ApiToken", nth, &json!({"instanceRef": {"name": "eem"}}), &status)
    }

    fn account(nth: usize, active: bool) -> Account {
        object("ServiceAccount", nth, &json!({"instanceRef": {"name": "eem"}, "active": active}), &json!({}))
    }

    fn learn<K: Indexed>(index: &mut Index, nth: usize, object: Option<K>) {
        match object {
            Some(object) => _ = index.apply(object),
            None => _ = index.forget::<K>(Key::new("a", nth.to_string()), 0),
        }
    }

    fn learn_all<K: Indexed>(index: &mut Index, all: impl Iterator<Item = K>) {
        let pools = index.pools();
        index.reset(all.map(|object| pools.reduce(object)).collect(), &Doubted::new());
    }

    fn happens(index: &mut Index, news: News) {
        match news {
            News::Token(nth, facts) => learn(index, nth, facts.map(|facts| token(nth, facts))),
            News::Account(nth, active) => learn(index, nth, active.map(|active| account(nth, active))),
            News::Unread(nth) => _ = index.doubt::<Account>(Key::new("a", nth.to_string()), 0),
            News::Tokens(all) => {
                learn_all(index, all.into_iter().enumerate().filter_map(|(nth, facts)| Some(token(nth, facts?))));
            }
            News::Accounts(all) => {
                learn_all(index, all.into_iter().enumerate().filter_map(|(nth, active)| Some(account(nth, active?))));
            }
        }
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn each_token_is_found_by_its_ids_with_its_account_whatever_the_order_of_the_news(all in vec(news(), 0..40)) {
            let mut index = Index::default();
            all.into_iter().for_each(|news| happens(&mut index, news));
            for id in (0..ALL).map(id) {
                let mut found: Vec<_> = index.by_id(id).collect();
                found.sort_by_key(|bound| &bound.token.key);
                let mut known: Vec<_> = index.tokens.iter().filter(|held| held.entry.has(id)).collect();
                known.sort_by_key(|held| &held.key);
                prop_assert_eq!(found.iter().map(|bound| &bound.token.key).collect::<Vec<_>>(),
                    known.iter().map(|held| &held.key).collect::<Vec<_>>());
                prop_assert_eq!(index.ambiguous().contains(&id), known.len() > 1);
                for BoundToken { token, account } in found {
                    prop_assert!(std::ptr::eq(&**token, index.token(&token.key).unwrap()));
                    let name = token.entry.account.as_ref().map(|bound| &bound.name);
                    let known = name.and_then(|name| index.account("a", name));
                    prop_assert_eq!(account.as_ref().map(|held| &held.entry), known);
                }
            }
            learn_all::<ApiToken>(&mut index, [].into_iter());
            prop_assert!(index.ids.is_empty());
        }
    }
}
