{{/* Chart name, as in the label app.kubernetes.io/name. */}}
{{- define "tokenry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* First part of every object's name; 54 characters leave room for "-operator" in 63. */}}
{{- define "tokenry.fullname" -}}
{{- $name := include "tokenry.name" . }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}
{{- $name = .Release.Name }}
{{- else }}
{{- $name = printf "%s-%s" .Release.Name $name }}
{{- end }}
{{- $name | trunc 54 | trimSuffix "-" }}
{{- end }}

{{/* Namespace of every object that has one, unless a template says another. */}}
{{- define "tokenry.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Labels that tell a component's Pods from all others: (list $ "operator"). */}}
{{- define "tokenry.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "tokenry.name" $ | quote }}
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels of an object of a component, with further ones if given: (list $ "operator" $more). */}}
{{- define "tokenry.labels" -}}
{{- $ := index . 0 }}
{{- $labels := include "tokenry.selectorLabels" . | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/version" $.Chart.AppVersion }}
{{- $_ := set $labels "app.kubernetes.io/part-of" "tokenry" }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" $.Release.Service }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- range rest (rest .) }}
{{- $labels = merge $labels (. | default dict) }}
{{- end }}
{{- merge $labels ($.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/*
Whether a switch is on: (list .Values.restart "enabled" true). What is not empty means yes. A release of an older chart that is
upgraded with its values alone has not every switch: one that it lacks is as the last item says.
*/}}
{{- define "tokenry.on" -}}
{{- $values := index . 0 | default dict }}
{{- if hasKey $values (index . 1) | ternary (get $values (index . 1)) (index . 2) }}yes{{ end }}
{{- end }}

{{/*
Whether the API server is to stamp owners: "always" and "never" say so. "auto" asks the API server whether it can; where none
is asked, as by `helm template`, its version tells. A server that was asked has Pods among its kinds, and what helm assumes has no kinds.
*/}}
{{- define "tokenry.stamps" -}}
{{- $said := (.Values.admission).stamps | default "auto" }}
{{- $able := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- if not (.Capabilities.APIVersions.Has "v1/Pod") }}
{{- $able = or $able (semverCompare ">=1.36-0" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and (include "tokenry.on" (list .Values.admission "enabled" true)) (eq $said "auto" | ternary $able (eq $said "always")) }}yes{{ end }}
{{- end }}

{{/* Name of the core ServiceAccount a component runs as: (list $ "operator"). */}}
{{- define "tokenry.serviceAccountName" -}}
{{- $ := index . 0 }}
{{- $component := index . 1 }}
{{- $account := (index $.Values $component).serviceAccount | default dict }}
{{- $account.name | default (ternary (printf "%s-%s" (include "tokenry.fullname" $) $component) "default" (include "tokenry.on" (list $account "create" true) | not | not)) }}
{{- end }}

{{/* Image of both components. */}}
{{- define "tokenry.image" -}}
{{- $repository := (.Values.image).repository | default "tokenry" }}
{{- with (.Values.image).digest }}
{{- printf "%s@%s" $repository . }}
{{- else }}
{{- printf "%s:%s" $repository ((.Values.image).tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}
