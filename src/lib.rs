//! Tokenry issues API access tokens the Kubernetes way.
