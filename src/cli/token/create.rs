//! `kubectl tokenry create`: applies an ApiToken, and prints its value.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    allowed,
    creation::{self, CreationRights},
    free, granted,
    times::{EndTime, ahead, both},
    view, wait,
};
use crate::{
    access::Rules,
    cli::{
        Error,
        connection::{Connection, Workplace},
        explain::named,
        names::{self, Nameable},
        output::{self, ObjectForm},
        screen::remark,
        token::show,
    },
    crd::{
        ApiToken, Instance, InstanceRef,
        api_token::{ApiTokenSpec, DeliveryMode, Expiry, SecretTemplate},
        condition,
        permission::Scope,
        subject::canonical,
    },
    outside::{Clock, SystemClock, desk::Intent},
    verifier::index::Key,
};

#[derive(Args)]
pub(crate) struct Create {
    /// Name of the ApiToken; it is also the name of its Secret
    #[arg(value_parser = names::object)]
    name: String,
    /// Instance of the token, NAME or NAMESPACE/NAME; default: the only Instance of the namespace
    #[arg(long, value_name = "INSTANCE", add = names::of(Nameable::Instance), value_parser = names::placed)]
    instance: Option<String>,
    /// Role of the token; default: as the Instance says
    #[arg(long, add = names::of(Nameable::Role), value_parser = names::role)]
    role: Option<String>,
    /// The strongest role of the Instance
    #[arg(long, conflicts_with = "role")]
    admin: bool,
    /// Owner, such as user:alice@example.com; default: the current user, where the API server records it
    #[arg(long, value_name = "SUBJECT", add = names::of(Nameable::Owner), value_parser = names::owner)]
    owner: Option<String>,
    /// Purpose of the token
    #[arg(long)]
    description: Option<String>,
    /// Expiry of each value such as 30d, the end of the token such as 2027-06-30, or never; default: as the Instance
    /// says
    #[arg(long, value_name = "30d|DATE|never", value_parser = EndTime::expiry, allow_hyphen_values = true)]
    expires: Option<EndTime>,
    /// Organization that the token may act for; may be given several times; default: all of its account
    #[arg(long = "organization", value_name = "NAME", add = names::of(Nameable::Organization), value_parser = names::scope)]
    organizations: Vec<String>,
    /// Project that the token may act in; may be given several times; default: all
    #[arg(long = "project", value_name = "NAME", value_parser = names::scope)]
    projects: Vec<String>,
    /// AccessPolicy that the token joins; may be given several times
    #[arg(long = "policy", value_name = "NAME", add = names::of(Nameable::Policy), value_parser = names::object)]
    policies: Vec<String>,
    /// Show the value once only: its Secret is deleted when the value is claimed, or after an hour
    #[arg(long)]
    once: bool,
    /// Let the API server check the ApiToken, and create nothing; with --output, print its manifest
    #[arg(long)]
    dry_run: bool,
    /// Print the ApiToken in place of its value
    #[arg(long, short)]
    output: Option<ObjectForm>,
    /// Longest wait for the value
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::times::limit)]
    #[arg(allow_hyphen_values = true)]
    timeout: std::time::Duration,
    #[command(flatten)]
    connection: Connection,
}

/// The token of a command line.
struct WantedToken {
    token: ApiToken,
    /// True if its Instance has the operator give the owner the right to read the value.
    is_granted: bool,
}

impl Create {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.connection.work(async |place| self.run(place).await)
    }

    async fn run(&self, place: &Workplace) -> Result<(), Error> {
        let now = SystemClock.now();
        self.expires.iter().try_for_each(|end| ahead(end, now, "--expires"))?;
        let intent = if self.dry_run { Intent::Rehearse } else { Intent::Do };
        let known = match self.wanted(place, now).await {
            // The review names the right to read the Instance, and all others that are missing.
            Err(Error::Refused(_)) => None,
            wanted => Some(wanted?),
        };
        let mut rights = self.rights(place);
        // The operator gives the owner that right once the token exists.
        let is_granted = known.as_ref().is_some_and(|known| known.is_granted);
        rights.reads &= !is_granted;
        rights.names_less &= known.is_none();
        let named = self.named(&place.namespace);
        creation::review(place, &rights, known.as_ref().map_or(&named, |known| &known.token), intent).await?;
        let WantedToken { token: wanted, .. } = match known {
            Some(wanted) => wanted,
            None => self.wanted(place, now).await?,
        };
        free::check(place, &self.name).await?;
        let token = match place.desk.create(&wanted, intent).await {
            Ok(token) => token,
            Err(refusal) => return Err(creation::refused(place, &wanted, refusal).await),
        };
        match (self.dry_run, self.output) {
            (true, None) => remark(&format!("{}: the API server accepts it; nothing was created", self.name)),
            // A dry run prints the manifest, which can be applied elsewhere.
            (true, Some(form)) => output::object(&wanted, form)?,
            (false, Some(form)) => output::object(&view::without_managers(token), form)?,
            (false, None) => self.deliver(place, &token, now, is_granted).await.inspect_err(|_| {
                remark(&format!(
                    "ApiToken {} was created: `{}` describes it, `show` prints its value, `set` corrects it, `delete` \
                     removes it",
                    self.name,
                    view::command("status", &token)
                ));
            })?,
        }
        Ok(())
    }

    /// Waits for the value, and prints it. `is_granted`: the operator gives the owner the right to read it.
    async fn deliver(
        &self,
        place: &Workplace,
        token: &ApiToken,
        now: Timestamp,
        is_granted: bool,
    ) -> Result<(), Error> {
        let token = wait::until(&place.desk, token, self.timeout, |token| show::secret(token).is_some()).await?;
        if is_granted {
            granted::wait(place, &token, self.rights(place).to_value(&place.namespace)).await?;
        }
        show::print(place, &token, self.rights(place).value).await?;
        let status = token.status.as_ref();
        let end = status.and_then(|status| status.expires_at.as_ref()).map(|at| both(at.0, now));
        let name = token.name_any();
        remark(&match end {
            Some(end) => format!("ApiToken {name} was created; this value expires {end}"),
            None => format!("ApiToken {name} was created; this value never expires"),
        });
        remark(&show::again(&token, now));
        // Such as a token without a role, which opens nothing.
        if let Some(why) = view::condition(&token, condition::VALID).filter(|valid| valid.status == "False") {
            remark(&format!("but no request with it is let in ({}): {}", why.reason, why.message));
        }
        Ok(())
    }

    /// The new token, if its Instance allows it.
    async fn wanted(&self, place: &Workplace, now: Timestamp) -> Result<WantedToken, Error> {
        let instance = self.instance(place).await?;
        granted::heed(place, Some(&instance));
        let key = Key::new(instance.namespace().unwrap_or_default(), instance.name_any());
        let token = self.token(&place.namespace, &key, self.role(&instance)?);
        allowed::check(place, &instance, &token, now).await?;
        let owner = self.owner.as_deref().map(canonical);
        let is_granted = granted::is_given(place, &instance, owner.as_deref()).await?;
        Ok(WantedToken { token, is_granted })
    }

    /// The rights that the command needs before it writes.
    fn rights(&self, place: &Workplace) -> CreationRights<'_> {
        CreationRights {
            name: &self.name,
            instance: self.instance.as_deref().map(|given| named(given, &place.namespace)),
            waits: !self.dry_run && self.output.is_none(),
            reads: !self.dry_run && self.output.is_none(),
            value: if self.once { "--claim" } else { "--read" },
            names_less: self.admin || self.instance.is_none() && (self.role.is_some() || !self.policies.is_empty()),
        }
    }

    /// The Instance of the new token.
    async fn instance(&self, place: &Workplace) -> Result<Instance, Error> {
        let Workplace { desk, namespace } = place;
        if let Some(given) = &self.instance {
            let Key { namespace, name } = named(given, namespace);
            let found: Option<Instance> = desk.find_needed(&namespace, &name).await?;
            return found.ok_or_else(|| Error::Missing(format!("Instance {namespace}/{name} does not exist")));
        }
        let mut all: Vec<Instance> = desk.list_needed(Some(namespace), None).await?;
        let names = all.iter().map(ResourceExt::name_any).collect::<Vec<_>>().join(", ");
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => Err(Error::Usage(format!("give --instance: namespace {namespace} has {names}"))),
            (None, _) => place.exists().await.and(Err(Error::Usage(format!(
                "give --instance NAMESPACE/NAME: namespace {namespace} has no Instance of its own; this lists \
                 others:\n  kubectl get instances.tokenry.dev --all-namespaces"
            )))),
        }
    }

    /// The role of the new token. `None`: the Instance decides.
    fn role(&self, instance: &Instance) -> Result<Option<String>, Error> {
        if !self.admin {
            return Ok(self.role.clone());
        }
        let name = instance.name_any();
        let faulty =
            |_| Error::Missing(format!("Instance {name} has faults, so its roles are not known; see its status"));
        let rules = Rules::of(instance).map_err(faulty)?;
        Ok(rules.role_names().last().map(str::to_owned))
    }

    /// The new token as the command line alone says it. Without an Instance, it has no role and no policies.
    fn named(&self, home: &str) -> ApiToken {
        if let Some(given) = &self.instance {
            return self.token(home, &named(given, home), self.role.clone());
        }
        let mut token = self.token(home, &Key::new(home, ""), None);
        token.spec.policies.clear();
        token
    }

    /// The new token.
    fn token(&self, namespace: &str, instance: &Key, role: Option<String>) -> ApiToken {
        let home = Some(&instance.namespace).filter(|home| **home != *namespace);
        let instance_ref =
            InstanceRef { name: instance.name.as_str().into(), namespace: home.map(|home| home.as_str().into()) };
        let listed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect::<Vec<_>>();
        let organizations = (!self.organizations.is_empty())
            .then(|| Scope { listed: Some(listed(&self.organizations)), ..Scope::default() });
        let delivery = self.once.then_some(DeliveryMode::Once);
        let spec = ApiTokenSpec {
            owner: self.owner.as_deref().map(Into::into),
            role: role.map(Into::into),
            description: self.description.clone(),
            expiry: self.expires.as_ref().map(expiry),
            organizations,
            projects: self.projects.iter().map(|name| name.as_str().into()).collect(),
            policies: self.policies.iter().map(|name| name.as_str().into()).collect(),
            secret: delivery.map(|delivery| SecretTemplate { delivery: Some(delivery), ..SecretTemplate::default() }),
            ..ApiTokenSpec::of(instance_ref)
        };
        let mut token = ApiToken::new(&self.name, spec);
        token.metadata.namespace = Some(namespace.to_owned());
        token
    }
}

fn expiry(end: &EndTime) -> Expiry {
    match end {
        EndTime::After(text) => Expiry { after: Some(text.as_str().into()), ..Expiry::default() },
        EndTime::At(at) => Expiry { at: Some((*at).into()), ..Expiry::default() },
        EndTime::Never => Expiry { never: true, ..Expiry::default() },
    }
}
