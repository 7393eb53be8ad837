//! The metrics of each token. Each scrape reads them from the cache of tokens. So a change of a token costs nothing,
//! and a deleted token has no series.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::Metrics;
use crate::outside::store::{Gist, NamedGist};

/// The helps of the metrics.
const EXPIRATION: &str =
    "End of the served value of a token, in Unix time. Without a sample, it never expires, or none is served.";
const RENEWAL: &str = "Time at which the served value of a token is replaced, in Unix time. Without a sample, no \
     replacement is scheduled.";
const VALID: &str = "1 if the condition Valid of a token is True, else 0.";
const READY: &str = "1 if the condition Ready of a token is True, else 0.";

/// The tokens of now.
type TokenSource = Box<dyn Fn() -> Vec<NamedGist> + Send + Sync>;

/// Reads the tokens at each scrape. Without a source, there are no metrics of tokens.
#[derive(Clone, Default)]
pub(super) struct TokenCollector(Arc<OnceLock<TokenSource>>);

impl fmt::Debug for TokenCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenCollector")
    }
}

impl Metrics {
    /// Has metrics for each of the tokens that `tokens` returns. Only the first call counts.
    pub fn tokens(&self, tokens: impl Fn() -> Vec<NamedGist> + Send + Sync + 'static) {
        let _ = self.tokens.0.set(Box::new(tokens));
    }
}

impl Collector for TokenCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(source) = self.0.get() else { return Ok(()) };
        let tokens = source();
        let mut told = |name, help, of: fn(&Gist) -> Option<i64>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for NamedGist { namespace, name, gist } in &tokens {
                if let Some(value) = of(gist) {
                    let labels = [("namespace", namespace.as_str()), ("name", name.as_str())];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
            Ok(())
        };
        told("tokenry_token_expiration_timestamp_seconds", EXPIRATION, |gist| {
            gist.expires_at.map(|at| at.as_second())
        })?;
        told("tokenry_token_renewal_timestamp_seconds", RENEWAL, |gist| gist.rotates_at.map(|at| at.as_second()))?;
        told("tokenry_token_valid", VALID, |gist| Some(gist.is_valid.into()))?;
        told("tokenry_token_ready", READY, |gist| Some(gist.is_ready.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn token(name: &str, gist: Gist) -> NamedGist {
        NamedGist { namespace: "events".into(), name: name.into(), gist }
    }

    #[test]
    fn each_token_has_its_series_until_it_is_gone() {
        let at = |second| Some(jiff::Timestamp::from_second(second).unwrap());
        let good = Gist {
            is_valid: true,
            is_ready: true,
            expires_at: at(1_800_000_000),
            rotates_at: at(1_790_000_000),
            ..Gist::default()
        };
        let all = Arc::new(Mutex::new(vec![token("ci", good), token("new", Gist::default())]));
        let metrics = Metrics::default();
        assert!(!metrics.text().contains("tokenry_token_"), "a verifier has none of them");
        let source = all.clone();
        metrics.tokens(move || source.lock().unwrap().clone());
        let told =
            || metrics.text().lines().filter(|line| line.starts_with("tokenry_token_")).collect::<Vec<_>>().join("\n");
        let wanted = r#"tokenry_token_expiration_timestamp_seconds{namespace="events",name="ci"} 1800000000
tokenry_token_renewal_timestamp_seconds{namespace="events",name="ci"} 1790000000
tokenry_token_valid{namespace="events",name="ci"} 1
tokenry_token_valid{namespace="events",name="new"} 0
tokenry_token_ready{namespace="events",name="ci"} 1
tokenry_token_ready{namespace="events",name="new"} 0"#;
        assert_eq!(told(), wanted);
        all.lock().unwrap().clear();
        assert_eq!(told(), "");
        assert!(metrics.text().contains("# TYPE tokenry_token_valid gauge"));
    }
}
