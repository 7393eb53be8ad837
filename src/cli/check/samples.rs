//! Samples in the OpenMetrics text format. Each has one label at most, as those that checks read.

/// The samples of the metric `name`: the value of the label, and the number.
pub(super) fn by_label(text: &str, name: &str) -> impl Iterator<Item = (String, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (label, number) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let label = label.split_once("=\"").map_or("", |(_, value)| value.trim_end_matches('"'));
        Some((label.to_owned(), number.split(' ').next()?.parse().ok()?))
    })
}

/// The label of the first sample of `name`.
pub(super) fn label(text: &str, name: &str) -> Option<String> {
    by_label(text, name).map(|(label, _)| label).next()
}

/// The number of the first sample of `name`.
pub(super) fn number(text: &str, name: &str) -> Option<f64> {
    by_label(text, name).map(|(_, number)| number).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::metrics::Metrics;

    #[test]
    fn the_samples_of_this_program_are_read() {
        let metrics = Metrics::default();
        metrics.objects("apitokens".into(), 3, 7);
        metrics.objects("instances".into(), 1, 8);
        metrics.stamped(true);
        let text = metrics.text();
        let objects: Vec<_> = by_label(&text, "tokenry_verifier_objects").collect();
        assert!(objects.contains(&("apitokens".into(), 3.0)) && objects.len() == 2, "{objects:?}");
        let digests: Vec<_> = by_label(&text, "tokenry_verifier_objects_digest").collect();
        assert!(digests.contains(&("instances".into(), 8.0)) && digests.len() == 2, "{digests:?}");
        assert_eq!(number(&text, "tokenry_stamped"), Some(1.0));
        assert_eq!(label(&text, "tokenry_build_info").as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(number(&text, "tokenry_none"), None);
        assert_eq!(number("tokenry_stamped{} 1\n", "tokenry_stamped"), Some(1.0), "an older release");
    }
}
