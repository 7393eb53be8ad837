// The modules with the definitions (CRDs) of other products. Tests read their manifests from Go's
// module cache, so this repository holds no copy: see src/definitions.rs.
module tokenry.dev/controlplane

go 1.26.0

require (
	github.com/envoyproxy/gateway v1.9.1
	github.com/fluxcd/helm-controller v1.4.0
	github.com/fluxcd/kustomize-controller v1.9.0
	github.com/fluxcd/source-controller v1.9.0
	github.com/openshift/api v0.0.0-20260420151639-34e60874783e
	github.com/operator-framework/api v0.37.0
	github.com/prometheus-operator/prometheus-operator v0.92.1
	github.com/traefik/traefik/v3 v3.7.13
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.6.1
)
