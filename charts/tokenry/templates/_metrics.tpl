{{/* Tells if callers of /metrics have to prove themselves. */}}
{{- define "tokenry.secureMetrics" -}}
{{- include "tokenry.on" (list (.Values.metrics).secure "enabled" false) }}
{{- end }}

{{/* Secret with the certificate for /metrics. Empty: each Pod makes a certificate. */}}
{{- define "tokenry.metricsSecret" -}}
{{- if include "tokenry.secureMetrics" . }}{{ ((.Values.metrics).secure).secretName }}{{ end }}
{{- end }}

{{/* Tells if a component sends to an OpenTelemetry collector: (list $ "operator"). */}}
{{- define "tokenry.sendsOtlp" -}}
{{- $ := index . 0 }}
{{- $settings := index $.Values (index . 1) | default dict }}
{{- $sends := or ($.Values.traces).endpoint (eq (toString ($settings.audit).to) "otlp") }}
{{- range $settings.extraEnv }}
{{- $sends = or $sends (regexMatch "^OTEL_EXPORTER_OTLP_(.*_)?ENDPOINT$" .name) }}
{{- end }}
{{- if $sends }}yes{{ end }}
{{- end }}

{{/* Arguments of a component for metrics and traces: (list $ "operator"). */}}
{{- define "tokenry.metricsArgs" -}}
{{- $ := index . 0 }}
{{- $component := index . 1 }}
{{- $traces := $.Values.traces | default dict }}
{{- if include "tokenry.secureMetrics" $ }}
- --metrics-secure
{{- if include "tokenry.metricsSecret" $ }}
- --metrics-tls-cert=/etc/tokenry/metrics/tls.crt
- --metrics-tls-key=/etc/tokenry/metrics/tls.key
{{- end }}
{{- end }}
{{- if and (eq $component "operator") (not (include "tokenry.on" (list $.Values.metrics "perToken" true))) }}
- --metrics-per-token=false
{{- end }}
{{- with $traces.endpoint }}
- {{ printf "--otlp-endpoint=%s" . | quote }}
- --trace-sample={{ $traces.sample | default 1 }}
{{- if and (eq $component "verifier") $traces.followProxy }}
- --trace-follow-proxy
{{- end }}
{{- end }}
{{- end }}
