{{/*
The alerts, as a list. `needsPerToken` marks those about metrics of each token. An operator without an election leads: it has
no metric of an election. `{{` in quotes begins a template of Prometheus. A metric of a Pod has the namespace of Tokenry, and a
metric of a token has the namespace of that token. Both have the release, which the monitors copy from the label of the Pod.
*/}}
{{- define "tokenry.alerts" -}}
{{- $rule := .Values.metrics.prometheusRule }}
{{- $for := $rule.for | default "5m" }}
{{- $longFor := $rule.notReadyFor | default "15m" }}
{{- $release := printf "app_kubernetes_io_instance=%q" .Release.Name }}
{{- $ours := printf "namespace=%q,%s" (include "tokenry.namespace" .) $release }}
{{- $scope := include "tokenry.scopedNamespaces" . | fromJsonArray }}
{{- $tokens := printf "{%s}" $release }}
{{- if $scope }}
{{- $tokens = printf "{namespace%s%q,%s}" (gt (len $scope) 1 | ternary "=~" "=") (join "|" $scope) $release }}
{{- end }}
{{- $token := `{{ $labels.namespace }}/{{ $labels.name }}` }}
- alert: TokenryValueExpires
  needsPerToken: true
  severity: warning
  for: {{ $for }}
  summary: The value of a token expires soon, and nothing renews it
  description: >-
    The value of ApiToken {{ $token }} expires in {{ `{{ $value | humanizeDuration }}` }}, and no rotation is scheduled. It is refused then.
  expr: |
    max by (namespace, name) (tokenry_token_expiration_timestamp_seconds{{ $tokens }}) - time() < {{ mul 86400 ($rule.expiresWithinDays | default 7) }}
    and on (namespace, name) max by (namespace, name) (tokenry_token_valid{{ $tokens }}) == 1
    unless on (namespace, name) max by (namespace, name) (tokenry_token_renewal_timestamp_seconds{{ $tokens }})
- alert: TokenryRotationOverdue
  needsPerToken: true
  severity: warning
  for: {{ $longFor }}
  summary: A token was not rotated when it was due
  description: The rotation of ApiToken {{ $token }} is overdue by {{ `{{ $value | humanizeDuration }}` }}.
  expr: time() - max by (namespace, name) (tokenry_token_renewal_timestamp_seconds{{ $tokens }}) > 60
- alert: TokenryTokenNotReady
  needsPerToken: true
  severity: warning
  for: {{ $longFor }}
  summary: A token is not ready
  description: ApiToken {{ $token }} has not been Ready for {{ $longFor }}.
  expr: max by (namespace, name) (tokenry_token_ready{{ $tokens }}) == 0
- alert: TokenryNoLeader
  severity: critical
  for: {{ $for }}
  summary: No operator leads
  description: Prometheus has seen no operator that leads for {{ $for }}. Values stay valid until they expire, and nothing is issued, rotated or revoked.
  expr: |
    absent(
      leader_election_master_status{ {{- $ours }},name="{{ include "tokenry.fullname" . }}-operator"} == 1
      or controller_runtime_max_concurrent_reconciles{ {{- $ours -}} } unless on (namespace, pod, instance) leader_election_master_status
    )
- alert: TokenryOperatorFailing
  severity: warning
  for: {{ $longFor }}
  summary: The operator fails again and again
  description: The operator fails to keep objects of kind {{ `{{ $labels.kind }}` }}. The reason is {{ `{{ $labels.reason }}` }}.
  expr: sum by (kind, reason) (rate(tokenry_failures_total{ {{- $ours -}} }[10m])) > 0
- alert: TokenryVerifierAbsent
  severity: critical
  for: {{ $for }}
  summary: No verifier answers
  description: Prometheus has seen no verifier for {{ $for }}. Proxies refuse each request while no verifier answers.
  expr: absent(tokenry_verifier_objects{ {{- $ours -}} })
- alert: TokenryOutOfTouch
  severity: critical
  summary: A Pod hears nothing from the API server
  description: Pod {{ `{{ $labels.pod }}` }} has heard nothing of a kind for {{ `{{ $value | humanizeDuration }}` }}. A verifier does not know of revoked values meanwhile. The log of the Pod names the kind, and the namespace where it serves several.
  expr: max by (namespace, pod, instance) (tokenry_heard_age_seconds{ {{- $ours -}} }) > {{ $rule.outOfTouchSeconds | default 180 }}
- alert: TokenryVerifierErrors
  severity: critical
  for: {{ $for }}
  summary: The verifier answers with errors
  description: The verifier answers {{ `{{ $value | humanize }}` }} % of the requests to Instance {{ `{{ $labels.instance }}` }} with an error (5xx).
  expr: |
    100 * sum by (instance) (rate(tokenry_verifier_verdicts_total{ {{- $ours }},status=~"5.."}[5m]))
    / sum by (instance) (rate(tokenry_verifier_verdicts_total{ {{- $ours -}} }[5m])) > {{ dig "errorPercent" 5 $rule }}
- alert: TokenryRevokedValueUsed
  severity: warning
  summary: A revoked or altered value is presented
  description: Callers of Instance {{ `{{ $labels.instance }}` }} present a revoked value, or a value that differs from the issued one ({{ `{{ $labels.reason }}` }}).
  expr: |
    {{- include "tokenry.grown" (list "instance, reason" (printf "tokenry_verifier_verdicts_total{%s,reason=~\"Mismatch|Revoked\"}" $ours)) | nindent 4 }}
- alert: TokenryAuditLinesLost
  severity: warning
  summary: Lines of the audit log are lost
  description: Verifier {{ `{{ $labels.pod }}` }} lost {{ `{{ $value | humanize }}` }} lines of its audit log in ten minutes.
  expr: |
    {{- include "tokenry.grown" (list "namespace, pod" (printf "tokenry_verifier_audit_dropped_total{%s}" $ours)) | nindent 4 }}
- alert: TokenryPolicyUnread
  severity: critical
  for: {{ $for }}
  summary: An AccessPolicy cannot be read
  description: The verifier cannot read {{ `{{ $value }}` }} AccessPolicies. Instances in their namespaces permit nothing.
  expr: max by (namespace) (tokenry_verifier_unread_policies{ {{- $ours -}} }) > 0
- alert: TokenryIdAmbiguous
  severity: warning
  for: {{ $for }}
  summary: Several tokens have a record of the same value
  description: Records of several tokens share {{ `{{ $value }}` }} ids. The verifier refuses values with such an id.
  expr: max by (namespace) (tokenry_verifier_ambiguous_ids{ {{- $ours -}} }) > 0
- alert: TokenryCertificateExpires
  severity: warning
  for: {{ $for }}
  summary: The certificate of a verifier expires soon
  description: The certificate of verifier {{ `{{ $labels.pod }}` }} expires in {{ `{{ $value | humanizeDuration }}` }}. Its renewal is overdue.
  expr: min by (namespace, pod, instance) (tokenry_verifier_certificate_expiration_timestamp_seconds{ {{- $ours -}} }) - time() < {{ mul 86400 (dig "certificateExpiresWithinDays" 21 $rule) }}
{{- end }}

{{/*
A counter that has grown within ten minutes: (list "labels" "metric"). A counter that appears has grown too, and
`increase` does not see that.
*/}}
{{- define "tokenry.grown" -}}
{{- $by := index . 0 }}
{{- $metric := index . 1 }}
sum by ({{ $by }}) (increase({{ $metric }}[10m])) > 0
or sum by ({{ $by }}) ({{ $metric }} unless {{ $metric }} offset 10m) > 0
{{- end }}
