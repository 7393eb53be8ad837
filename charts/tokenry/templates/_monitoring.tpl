{{/*
Tells if an object of the Prometheus Operator is rendered: (list $ .Values.metrics.podMonitor "podMonitor" "PodMonitor").
`helm template` asks no API server, so `skipIfMissing` renders there what `--api-versions monitoring.coreos.com/v1` names.
*/}}
{{- define "tokenry.monitored" -}}
{{- $ := index . 0 }}
{{- $settings := index . 1 | default dict }}
{{- if $settings.enabled }}
{{- $kind := index . 3 }}
{{- $mode := $settings.renderMode | default "skipIfMissing" }}
{{- $versions := $.Capabilities.APIVersions }}
{{- $served := $versions.Has (printf "monitoring.coreos.com/v1/%s" $kind) }}
{{- if not ($versions.Has "v1/Pod") }}
{{- $served = or $served ($versions.Has "monitoring.coreos.com/v1") }}
{{- end }}
{{- if and (eq $mode "failIfMissing") (not $served) }}
{{- fail (printf "\n\nmetrics.%s.enabled: the cluster does not serve the kind %s of monitoring.coreos.com/v1.\nInstall the Prometheus Operator first, or set metrics.%s.renderMode: skipIfMissing.\n" (index . 2) $kind (index . 2)) }}
{{- end }}
{{- if or $served (eq $mode "alwaysRender") }}yes{{ end }}
{{- end }}
{{- end }}

{{/*
How metrics are scraped, as the endpoint of a monitor: (list $ .Values.metrics.podMonitor "podMonitor"). Labels such as
`namespace` of a metric are those of tokens, so alerts and dashboard need `honorLabels`.
*/}}
{{- define "tokenry.scraped" -}}
{{- $ := index . 0 }}
{{- $settings := index . 1 }}
{{- $monitor := index . 2 }}
{{- $honors := include "tokenry.on" (list $settings "honorLabels" true) }}
{{- range $part := list "prometheusRule" "grafanaDashboard" }}
{{- if and (not $honors) (dig $part "enabled" false $.Values.metrics) }}
{{- fail (printf "\n\nmetrics.%s.honorLabels: false renames the labels that metrics.%s reads, such as namespace.\nSet it to true, or set metrics.%s.enabled: false.\n" $monitor $part $part) }}
{{- end }}
{{- end }}
path: /metrics
{{- if dig "secure" "enabled" false $.Values.metrics }}
{{- $given := $settings.endpointAdditionalProperties | default dict }}
port: metrics
scheme: https
{{- /* A PodMonitor has no bearerTokenFile. */}}
{{- $file := and (eq $monitor "serviceMonitor") $given.bearerTokenFile }}
{{- $proves := or $given.authorization $given.oauth2 $given.bearerTokenSecret $given.basicAuth $file }}
{{- if and (eq $monitor "podMonitor") (not $proves) }}
{{- fail "\n\nmetrics.secure.enabled: a PodMonitor has no token of Prometheus.\nSet metrics.podMonitor.endpointAdditionalProperties.authorization, or use metrics.serviceMonitor.\n" }}
{{- end }}
{{- if and (not $proves) (not (dig "secure" "secretName" "" $.Values.metrics)) }}
{{- fail "\n\nmetrics.secure.enabled: nothing verifies the certificate that a Pod makes, so Prometheus must not send it a token for the API server.\nSet metrics.secure.secretName, or mount a token for the audience tokenry.dev/metrics into Prometheus and name\nits file in metrics.serviceMonitor.endpointAdditionalProperties.bearerTokenFile.\n" }}
{{- end }}
{{- if and (not $given.tlsConfig) (dig "secure" "secretName" "" $.Values.metrics) }}
{{- fail (printf "\n\nmetrics.secure.secretName: name the CA and the server name of that certificate in metrics.%s.endpointAdditionalProperties.tlsConfig.\ninsecureSkipVerify: true there skips the verification.\n" $monitor) }}
{{- end }}
{{- if not $given.tlsConfig }}
# Each Pod makes its certificate at its start, so nothing verifies it. The token of the scraper is of no use elsewhere if
# it is for the audience tokenry.dev/metrics.
tlsConfig:
  insecureSkipVerify: true
{{- end }}
{{- if not $proves }}
bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- end }}
{{- else }}
port: probes
{{- end }}
interval: {{ $settings.interval | default "30s" }}
scrapeTimeout: {{ $settings.scrapeTimeout | default "10s" }}
honorLabels: {{ $honors | not | not }}
{{- with $settings.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.endpointAdditionalProperties }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of Pods that each series gets. Alerts and dashboard tell releases in one namespace apart by them. */}}
{{- define "tokenry.scrapedLabels" -}}
podTargetLabels: [app.kubernetes.io/instance]
{{- end }}

{{/* Labels of the Pods of both components. */}}
{{- define "tokenry.scrapedPods" -}}
{{- omit (include "tokenry.selectorLabels" (list . "metrics") | fromYaml) "app.kubernetes.io/component" | toYaml }}
{{- end }}
