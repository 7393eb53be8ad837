{{/* Name of the chart, for the label app.kubernetes.io/name. */}}
{{- define "tokenry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* First part of every object's name. It has at most 54 characters, so a name with "-operator" has at most 63. */}}
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

{{/* Default namespace of the namespaced objects. */}}
{{- define "tokenry.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Labels that only the Pods of a component have: (list $ "operator"). */}}
{{- define "tokenry.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "tokenry.name" $ | quote }}
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels of an object of a component, and optionally further labels: (list $ "operator" $more). */}}
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
Tells if a switch is on: (list .Values.restart "enabled" true). The result is "yes", or the empty string for no. With
`helm upgrade --reuse-values`, a switch that the older chart did not know is missing. The last item is its default.
*/}}
{{- define "tokenry.on" -}}
{{- $values := index . 0 | default dict }}
{{- if hasKey $values (index . 1) | ternary (get $values (index . 1)) (index . 2) }}yes{{ end }}
{{- end }}

{{/*
Tells if the API server should stamp owners. "always" and "never" decide that. "auto" depends on the API versions of the
API server. `helm template` asks no API server; then the Kubernetes version decides. The kind v1/Pod shows if a server
was asked: helm's assumed API versions contain no kinds.
*/}}
{{- define "tokenry.stamps" -}}
{{- $said := (.Values.admission).stamps | default "auto" }}
{{- $able := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- if not (.Capabilities.APIVersions.Has "v1/Pod") }}
{{- $able = or $able (semverCompare ">=1.36-0" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and (include "tokenry.on" (list .Values.admission "enabled" true)) (eq $said "auto" | ternary $able (eq $said "always")) }}yes{{ end }}
{{- end }}

{{/*
Tells if the operator grants rights by Roles and RoleBindings. "auto" depends on the release. A new release does so. An
upgrade does so if the Deployment of the operator has the flag. So an upgrade never begins it by itself. "auto" never
means yes without the admission policies, because they limit the operator's writes of Roles and RoleBindings.
*/}}
{{- define "tokenry.grants" -}}
{{- $grants := .Values.grants | default dict }}
{{- $said := hasKey $grants "enabled" | ternary (toString (get $grants "enabled")) "auto" }}
{{- $on := eq $said "true" }}
{{- if not (has $said (list "true" "false")) }}
{{- $able := and (include "tokenry.on" (list .Values.rbac "create" true)) (include "tokenry.on" (list .Values.admission "enabled" true)) }}
{{- $on = and .Release.IsInstall $able }}
{{- if and .Release.IsUpgrade $able }}
{{- $deployment := lookup "apps/v1" "Deployment" (include "tokenry.namespace" .) (printf "%s-operator" (include "tokenry.fullname" .)) }}
{{- range dig "spec" "template" "spec" "containers" list ($deployment | default dict) }}
{{- $on = or $on (has "--grants" (.args | default list)) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $on }}yes{{ end }}
{{- end }}

{{/*
Tells if operators elect a leader. "auto" means: if the chart creates the roles, because the operator needs permissions for
the Lease.
*/}}
{{- define "tokenry.elects" -}}
{{- $election := .Values.leaderElection | default dict }}
{{- $said := hasKey $election "enabled" | ternary (toString (get $election "enabled")) "auto" }}
{{- if or (eq $said "true") (and (eq $said "auto") (include "tokenry.on" (list .Values.rbac "create" true))) }}yes{{ end }}
{{- end }}

{{/* A duration such as 1m30s, in seconds. */}}
{{- define "tokenry.seconds" -}}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+[hms]" . -1 }}
{{- $unit := get (dict "h" 3600 "m" 60 "s" 1) (regexFind "[hms]" .) }}
{{- $sum = mul (regexFind "[0-9]+" . | atoi) $unit | add $sum }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* Arguments of the operator for the election. The program refuses the same periods. */}}
{{- define "tokenry.electionArgs" -}}
{{- $election := .Values.leaderElection | default dict }}
{{- $lease := $election.leaseDuration | default "15s" }}
{{- $renew := $election.renewDeadline | default "10s" }}
{{- $retry := $election.retryPeriod | default "2s" }}
{{- $seconds := dict }}
{{- range $name, $period := dict "lease" $lease "renew" $renew "retry" $retry }}
{{- $_ := set $seconds $name (include "tokenry.seconds" $period | atoi) }}
{{- end }}
{{- if gt $seconds.lease 300 }}
{{- fail (printf "\n\nleaderElection.leaseDuration is %s.\nSet it to 300s at most.\n" $lease) }}
{{- end }}
{{- if le $seconds.lease $seconds.renew }}
{{- fail (printf "\n\nleaderElection.leaseDuration is %s, and renewDeadline is %s. A leader has to stop before another begins.\nSet leaseDuration above renewDeadline.\n" $lease $renew) }}
{{- end }}
{{- if or (eq $seconds.retry 0) (lt $seconds.renew (mul 2 $seconds.retry)) }}
{{- fail (printf "\n\nleaderElection.renewDeadline is %s, and retryPeriod is %s. One failed renewal has to be no loss.\nSet renewDeadline to twice retryPeriod at least, and retryPeriod to 1s at least.\n" $renew $retry) }}
{{- end }}
- --leader-elect
- --leader-election-namespace={{ include "tokenry.leaseNamespace" . }}
- --leader-election-name={{ include "tokenry.fullname" . }}-operator
- --leader-election-lease-duration={{ $lease }}
- --leader-election-renew-deadline={{ $renew }}
- --leader-election-retry-period={{ $retry }}
{{- end }}

{{/* The namespace of the Lease. */}}
{{- define "tokenry.leaseNamespace" -}}
{{- (.Values.leaderElection).namespace | default (include "tokenry.namespace" .) }}
{{- end }}

{{/* Tells if the verifier answers introspection. Reviews of callers need a role in all namespaces. */}}
{{- define "tokenry.introspection" -}}
{{- if include "tokenry.on" (list (.Values.verifier).introspection "enabled" false) }}
{{- if .Values.scopedNamespace }}
{{- fail "\n\nverifier.introspection.enabled needs reviews of callers, which no role in one namespace permits.\nLeave out scopedNamespace, or set verifier.introspection.enabled=false.\n" }}
{{- end }}yes
{{- end }}
{{- end }}

{{/* Kinds that the operator may create for endpoints, as JSON. `helm upgrade --reuse-values` may lack the value. */}}
{{- define "tokenry.exposedKinds" -}}
{{- $exposure := .Values.exposure | default dict }}
{{- hasKey $exposure "kinds" | ternary (get $exposure "kinds" | default list) (list "HTTPRoute" "Ingress" "NetworkPolicy") | toJson }}
{{- end }}

{{/* API group and resource of a kind that exposes endpoints. */}}
{{- define "tokenry.exposedResource" -}}
{{- get (dict
  "HTTPRoute" "gateway.networking.k8s.io httproutes"
  "Ingress" "networking.k8s.io ingresses"
  "Route" "route.openshift.io routes"
  "NetworkPolicy" "networking.k8s.io networkpolicies"
  "Middleware" "traefik.io middlewares"
  "SecurityPolicy" "gateway.envoyproxy.io securitypolicies"
  "AuthorizationPolicy" "security.istio.io authorizationpolicies"
) . }}
{{- end }}

{{/* Settings for exposing endpoints, as JSON for the operator. */}}
{{- define "tokenry.exposure" -}}
{{- $exposure := .Values.exposure | default dict }}
{{- $namespace := include "tokenry.namespace" . }}
{{- $all := dict "kinds" (include "tokenry.exposedKinds" . | fromJsonArray) }}
{{- $verifier := dict "name" (printf "%s-verifier" (include "tokenry.fullname" .)) "namespace" $namespace }}
{{- if include "tokenry.plainHttp" . }}
{{- $_ := set $verifier "port" (include "tokenry.servicePort" (list . "port" 80) | int) }}
{{- end }}
{{- if include "tokenry.askByHttps" . }}
{{- $secret := printf "%s-verifier-ca" (include "tokenry.fullname" .) }}
{{- $_ := set $verifier "https" (dict "port" (include "tokenry.servicePort" (list . "httpsPort" 443) | int) "ca" (include "tokenry.caConfigMap" .) "caSecret" $secret) }}
{{- end }}
{{- if or $verifier.port $verifier.https }}
{{- $_ := set $all "verifier" $verifier }}
{{- end }}
{{- $_ := set $all "gateway" ($exposure.gateway | default list) }}
{{- if kindIs "map" $exposure.ingress }}
{{- $_ := set $all "ingress" $exposure.ingress }}
{{- end }}
{{- $_ := set $all "proxies" ($exposure.proxies | default list) }}
{{- if include "tokenry.on" (list .Values.exposure "traefikSafeNaming" false) }}
{{- $_ := set $all "traefikSafeNaming" true }}
{{- end }}
{{- $pods := include "tokenry.selectorLabels" (list . "operator") | fromYaml }}
{{- $_ := set $all "operator" (dict
  "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" $namespace))
  "podSelector" (dict "matchLabels" $pods)
) }}
{{- toJson $all }}
{{- end }}

{{/* Name of the core ServiceAccount of a component: (list $ "operator"). */}}
{{- define "tokenry.serviceAccountName" -}}
{{- $ := index . 0 }}
{{- $component := index . 1 }}
{{- $account := (index $.Values $component).serviceAccount | default dict }}
{{- $account.name | default (ternary (printf "%s-%s" (include "tokenry.fullname" $) $component) "default" (include "tokenry.on" (list $account "create" true) | not | not)) }}
{{- end }}

{{/* Secrets to pull the image with: those of a parent chart, each a name or an object, and the chart's own, each once. */}}
{{- define "tokenry.imagePullSecrets" -}}
{{- $all := list }}
{{- range concat ((.Values.global).imagePullSecrets | default list) (.Values.imagePullSecrets | default list) }}
{{- $all = append $all (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- uniq $all | toYaml }}
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

{{/* Name of the Secret with the certificate that the operator keeps. Empty: it keeps none. */}}
{{- define "tokenry.keptSecret" -}}
{{- $tls := (.Values.verifier).tls | default dict }}
{{- $able := and (include "tokenry.on" (list $tls "enabled" true)) (include "tokenry.on" (list .Values.rbac "create" true)) }}
{{- if and $able (not $tls.secretName) }}
{{- include "tokenry.fullname" . }}-verifier-tls
{{- end }}
{{- end }}

{{/* Name of the Secret with the certificate of the verifier. Empty: there is no HTTPS. */}}
{{- define "tokenry.tlsSecret" -}}
{{- $tls := (.Values.verifier).tls | default dict }}
{{- if include "tokenry.on" (list $tls "enabled" true) }}
{{- $tls.secretName | default (include "tokenry.keptSecret" .) }}
{{- end }}
{{- end }}

{{/*
Tells if the verifier answers by plain HTTP. Without a certificate, there would be no port at all.
*/}}
{{- define "tokenry.plainHttp" -}}
{{- $plain := include "tokenry.on" (list .Values.verifier "plainHttp" true) }}
{{- if not (or $plain (include "tokenry.tlsSecret" .)) }}
{{- fail "verifier.plainHttp: false needs a certificate; set verifier.tls.enabled, and name its Secret in verifier.tls.secretName if rbac.create is false" }}
{{- end }}
{{- $plain }}
{{- end }}

{{/*
Sources of the volume with the certificate of the verifier, and with the CA of its callers. They are optional: else the
kubelet mounts none of them while one is missing, and the Pod does not start. The verifier is not ready without a file.
*/}}
{{- define "tokenry.tlsSources" -}}
- secret:
    name: {{ include "tokenry.tlsSecret" . | quote }}
    optional: true
    items:
    - key: tls.crt
      path: tls.crt
    - key: tls.key
      path: tls.key
{{- $items := list (dict "key" "ca.crt" "path" "client-ca.crt") }}
{{- with ((.Values.verifier).tls).clientCA }}
{{- with .secretName }}
- secret:
    {{- dict "name" . "items" $items "optional" true | toYaml | nindent 4 }}
{{- end }}
{{- with .configMapName }}
- configMap:
    {{- dict "name" . "items" $items "optional" true | toYaml | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Name of the ConfigMap with the CA of the verifier. Empty: nobody names one. */}}
{{- define "tokenry.caConfigMap" -}}
{{- with include "tokenry.keptSecret" . }}
{{- . }}-ca
{{- else }}
{{- ((.Values.verifier).tls).caConfigMapName }}
{{- end }}
{{- end }}

{{/* The reason why no guard can ask the verifier by HTTPS, with the value that changes it. Empty: guards can. */}}
{{- define "tokenry.askByHttpsObstacle" -}}
{{- $clientCA := ((.Values.verifier).tls).clientCA | default dict }}
{{- if not (include "tokenry.tlsSecret" .) }}
{{- "there is no certificate; set verifier.tls.enabled, and name its Secret in verifier.tls.secretName if rbac.create is false" }}
{{- else if or $clientCA.secretName $clientCA.configMapName }}
{{- "they have no certificate, and verifier.tls.clientCA demands one of each caller" }}
{{- else if not (include "tokenry.caConfigMap" .) }}
{{- "they verify the certificate in verifier.tls.secretName by its CA; name the ConfigMap that has it in verifier.tls.caConfigMapName" }}
{{- end }}
{{- end }}

{{/*
Tells if guards may ask the verifier by HTTPS. "auto" depends on the obstacle. Without plain HTTP there is no other way, so
an obstacle is an error then, unless no guard asks at all.
*/}}
{{- define "tokenry.askByHttps" -}}
{{- $exposure := .Values.exposure | default dict }}
{{- $said := hasKey $exposure "askByHttps" | ternary (toString (get $exposure "askByHttps")) "auto" }}
{{- $plain := include "tokenry.plainHttp" . }}
{{- $obstacle := include "tokenry.askByHttpsObstacle" . }}
{{- if eq $said "false" }}
{{- else if not $obstacle }}yes
{{- else if eq $said "true" }}
{{- fail (printf "exposure.askByHttps: true: guards cannot ask the verifier by HTTPS: %s" $obstacle) }}
{{- else if not $plain }}
{{- fail (printf "verifier.plainHttp: false: guards cannot ask the verifier by HTTPS: %s. If no endpoint has a guard, set exposure.askByHttps: false" $obstacle) }}
{{- end }}
{{- end }}

{{/* Tells if the operator needs objects of the verifier's certificate, in the namespace of the components. */}}
{{- define "tokenry.keepsCertificate" -}}
{{- if or (include "tokenry.keptSecret" .) (include "tokenry.askByHttps" .) }}yes{{ end }}
{{- end }}

{{/*
The version of BackendTLSPolicy for the Service of the verifier. Empty: there is none. It exists also while guards ask by
plain HTTP, so a guard that goes back never lacks it. `helm template` asks no API server. There the namespaces of guards
decide.
*/}}
{{- define "tokenry.tlsPolicyVersion" -}}
{{- $kinds := include "tokenry.exposedKinds" . | fromJsonArray }}
{{- $listed := ((.Values.exposure).referenceGrants).namespaces }}
{{- $asks := include "tokenry.askByHttps" . }}
{{- $able := and (include "tokenry.tlsSecret" .) (include "tokenry.caConfigMap" .) }}
{{- if and $able (or $listed (has "HTTPRoute" $kinds) (has "SecurityPolicy" $kinds)) }}
{{- $group := "gateway.networking.k8s.io" }}
{{- if not (.Capabilities.APIVersions.Has "v1/Pod") }}
{{- if and $listed $asks }}{{ $group }}/v1{{ end }}
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1/BackendTLSPolicy" $group) }}{{ $group }}/v1
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1alpha3/BackendTLSPolicy" $group) }}{{ $group }}/v1alpha3
{{- else if and $listed $asks (not (include "tokenry.plainHttp" .)) }}
{{- fail "verifier.plainHttp: false: Gateways ask the verifier by HTTPS only with a BackendTLSPolicy, and the cluster does not serve that kind; install Gateway API 1.4 or newer, or leave verifier.plainHttp at true" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Number of Pods of a component: (list $ "verifier"). */}}
{{- define "tokenry.replicas" -}}
{{- $ := index . 0 }}
{{- $settings := index $.Values (index . 1) | default dict }}
{{- $count := hasKey $settings "replicaCount" | ternary (get $settings "replicaCount") (eq (index . 1) "verifier" | ternary 2 1) | int }}
{{- if and (include "tokenry.on" (list $.Values.highAvailability "enabled" false)) (eq $count 1) }}
{{- $count = 2 }}
{{- end }}
{{- if and (eq (index . 1) "operator") (gt $count 1) (not (include "tokenry.elects" $)) }}
{{- fail "\n\nSeveral operators without an election refuse each other's writes.\nSet leaderElection.enabled: true (with rbac.create: false, grant the permissions for the Lease first), or run one operator.\n" }}
{{- end }}
{{- $count }}
{{- end }}

{{/* Tells if an autoscaler sets the number of Pods of a component: (list $ "verifier"). */}}
{{- define "tokenry.autoscaled" -}}
{{- $ := index . 0 }}
{{- if eq (index . 1) "verifier" }}
{{- include "tokenry.on" (list ($.Values.verifier).autoscaling "enabled" false) }}
{{- end }}
{{- end }}

{{/*
Number of Pods of a component that an autoscaler serves: (list $ "verifier"). Empty: helm sets none. A number that helm has
set and then leaves out would become 1, the default of Kubernetes. So helm sets the number that exists. With server-side
apply, it does so only until the autoscaler has set another number.
*/}}
{{- define "tokenry.keptReplicas" -}}
{{- $ := index . 0 }}
{{- $deployment := lookup "apps/v1" "Deployment" (include "tokenry.namespace" $) (printf "%s-%s" (include "tokenry.fullname" $) (index . 1)) | default dict }}
{{- $applied := list }}
{{- range dig "metadata" "managedFields" list $deployment }}
{{- if eq .operation "Apply" }}
{{- $applied = append $applied (dig "fieldsV1" "f:spec" "f:replicas" false . | kindIs "map") }}
{{- end }}
{{- end }}
{{- if or (empty $applied) (has true $applied) }}
{{- dig "spec" "replicas" "" $deployment }}
{{- end }}
{{- end }}

{{/*
Fails for a budget that permits no eviction at all: (list $ "verifier"). The drain of a node would wait for ever. An autoscaler
changes the number of Pods, so nothing is known of its budget.
*/}}
{{- define "tokenry.checkBudget" -}}
{{- $ := index . 0 }}
{{- $least := toString ((index $.Values (index . 1)).podDisruptionBudget).minAvailable }}
{{- $count := include "tokenry.replicas" . | atoi }}
{{- if and (regexMatch "^[0-9]+%?$" $least) (gt $count 0) (not (include "tokenry.autoscaled" .)) }}
{{- $needed := regexFind "[0-9]+" $least | atoi }}
{{- if hasSuffix "%" $least }}
{{- $needed = div (add 99 (mul $needed $count)) 100 }}
{{- end }}
{{- if ge (int $needed) $count }}
{{- fail (printf "\n\n%s.podDisruptionBudget.minAvailable is %s, and there are %d Pods, so no node with one of them can be drained.\nSet it lower, raise replicaCount, or set maxUnavailable=0 instead if nobody may drain.\n" (index . 1) $least $count) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Affinity of the Pods of a component, as YAML: (list $ "verifier"). Empty: none. */}}
{{- define "tokenry.affinity" -}}
{{- $ := index . 0 }}
{{- $settings := index $.Values (index . 1) | default dict }}
{{- $affinity := $settings.affinity | default dict }}
{{- $said := $settings.antiAffinity | default "Preferred" }}
{{- if not (or (hasKey $affinity "podAntiAffinity") (eq $said "None")) }}
{{- /* Pods of the next version may be beside those that they replace: else an upgrade needs a free node. */}}
{{- $apart := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "tokenry.selectorLabels" . | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
{{- $rule := dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $apart)) }}
{{- if eq $said "Required" }}
{{- $rule = dict "requiredDuringSchedulingIgnoredDuringExecution" (list $apart) }}
{{- end }}
{{- $affinity = merge (dict "podAntiAffinity" $rule) $affinity }}
{{- end }}
{{- with $affinity }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* Rules that spread the Pods of a component, as YAML: (list $ "verifier"). Empty: none. */}}
{{- define "tokenry.spread" -}}
{{- $ := index . 0 }}
{{- $settings := index $.Values (index . 1) | default dict }}
{{- $selector := dict "matchLabels" (include "tokenry.selectorLabels" . | fromYaml) }}
{{- $rules := list }}
{{- range $settings.topologySpreadConstraints }}
{{- $rules = append $rules (hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" $selector) .)) }}
{{- end }}
{{- with $rules }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* A port of the verifier's Service: (list $ "port" 80). */}}
{{- define "tokenry.servicePort" -}}
{{- get (((index . 0).Values.verifier).service | default dict) (index . 1) | default (index . 2) | int }}
{{- end }}

{{/*
Fails for ports of the verifier's Service that Kubernetes refuses or ignores. By HTTP alone or by HTTPS alone, there is one
port, so nothing is twice.
*/}}
{{- define "tokenry.checkPorts" -}}
{{- $service := (.Values.verifier).service | default dict }}
{{- $both := and (include "tokenry.plainHttp" .) (include "tokenry.tlsSecret" .) }}
{{- $port := include "tokenry.servicePort" (list . "port" 80) }}
{{- if and $both (eq $port (include "tokenry.servicePort" (list . "httpsPort" 443))) }}
{{- fail (printf "\n\nverifier.service: port and httpsPort are both %s.\nSet another one, or serve one alone: verifier.plainHttp=false or verifier.tls.enabled=false.\n" $port) }}
{{- end }}
{{- if and $both $service.nodePort (eq (toString $service.nodePort) (toString $service.httpsNodePort)) }}
{{- fail (printf "\n\nverifier.service: nodePort and httpsNodePort are both %v.\nSet another one.\n" $service.nodePort) }}
{{- end }}
{{- if and (or $service.nodePort $service.httpsNodePort) (eq ($service.type | default "ClusterIP") "ClusterIP") }}
{{- fail "\n\nverifier.service: a Service of type ClusterIP has no node ports.\nSet type to NodePort or LoadBalancer, or leave out nodePort and httpsNodePort.\n" }}
{{- end }}
{{- end }}

{{/* IP families of a Service, as YAML. */}}
{{- define "tokenry.ipFamilies" -}}
{{- $service := (.Values.verifier).service | default dict }}
{{- with $service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with $service.ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The namespaces that the release serves, as JSON. An empty list: all namespaces. */}}
{{- define "tokenry.scopedNamespaces" -}}
{{- $all := without (list (.Values.scopedNamespace | default "")) "" }}
{{- with .Values.additionalScopedNamespaces }}
{{- if not $all }}
{{- fail "\n\nadditionalScopedNamespaces adds namespaces to scopedNamespace, which names none.\nSet scopedNamespace, or leave out additionalScopedNamespaces to serve all namespaces.\n" }}
{{- end }}
{{- $all = concat $all . | uniq }}
{{- end }}
{{- toJson $all }}
{{- end }}

{{/* Tells if all permissions are those of Roles in the served namespaces. */}}
{{- define "tokenry.scopedRBAC" -}}
{{- if include "tokenry.on" (list .Values "scopedRBAC" false) }}
{{- if not .Values.scopedNamespace }}
{{- fail "\n\nscopedRBAC: true creates Roles in the served namespaces alone, and scopedNamespace names none.\nSet scopedNamespace, or leave out scopedRBAC.\n" }}
{{- end }}yes
{{- end }}
{{- end }}

{{/* The namespaces of the Roles for served objects, as JSON. One empty name: there are ClusterRoles. */}}
{{- define "tokenry.roleNamespaces" -}}
{{- include "tokenry.scopedRBAC" . | empty | ternary `[""]` (include "tokenry.scopedNamespaces" .) }}
{{- end }}

{{/* Kind and metadata of a role, up to its labels: (list $ "name" "namespace"). Only Roles are in that namespace. */}}
{{- define "tokenry.role" -}}
{{- $ := index . 0 }}
{{- if include "tokenry.scopedRBAC" $ }}
kind: Role
metadata:
  name: {{ index . 1 }}
  namespace: {{ index . 2 | quote }}
{{- else }}
kind: ClusterRole
metadata:
  name: {{ index . 1 }}
{{- end }}
{{- end }}

{{/* Tells if a component has permissions outside of the namespaces that it serves: (list $ "operator"). */}}
{{- define "tokenry.seesCluster" -}}
{{- $ := index . 0 }}
{{- $kinds := include "tokenry.exposedKinds" $ | fromJsonArray }}
{{- $asksForClasses := and (eq (index . 1) "operator") (or (has "Ingress" $kinds) (has "HTTPRoute" $kinds)) }}
{{- if and (not (include "tokenry.scopedRBAC" $)) (or (not $.Values.scopedNamespace) $asksForClasses) }}yes{{ end }}
{{- end }}

{{/* First part of the names of the admission policies. */}}
{{- define "tokenry.admissionName" -}}
{{- include "tokenry.fullname" . }}{{ if include "tokenry.scopedRBAC" . }}-{{ .Values.scopedNamespace }}{{ end }}
{{- end }}

{{/* Address of the verifier for proxies. The default port of its scheme is left out. */}}
{{- define "tokenry.verifierURL" -}}
{{- $isSecure := include "tokenry.tlsSecret" . }}
{{- $usual := empty $isSecure | ternary 80 443 }}
{{- $port := include "tokenry.servicePort" (list . (empty $isSecure | ternary "port" "httpsPort") $usual) }}
{{- empty $isSecure | ternary "http" "https" }}://{{ include "tokenry.fullname" . }}-verifier.{{ include "tokenry.namespace" . }}.svc
{{- if ne $port (toString $usual) }}:{{ $port }}{{ end }}
{{- end }}
