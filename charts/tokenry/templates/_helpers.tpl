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

{{/* Name of the core ServiceAccount a component runs as: (list $ "operator"). */}}
{{- define "tokenry.serviceAccountName" -}}
{{- $ := index . 0 }}
{{- $component := index . 1 }}
{{- $account := (index $.Values $component).serviceAccount }}
{{- $account.name | default (ternary (printf "%s-%s" (include "tokenry.fullname" $) $component) "default" $account.create) }}
{{- end }}

{{/* Image of both components. */}}
{{- define "tokenry.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}
