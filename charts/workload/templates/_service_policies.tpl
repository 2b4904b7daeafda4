{{/* What may reach the pods of a service, and what they may reach: migrations and tests included. */}}
{{- define "service.networkPolicy" -}}
{{- if .Values.networkPolicy.enabled }}
{{ include "workload.head" (dict "root" . "component" "api" "api" "networking.k8s.io/v1" "kind" "NetworkPolicy" "name" (include "workload.fullname" .)) }}
spec:
  podSelector:
    matchLabels:
      {{- include "service.ownPods" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - {port: http, protocol: TCP}
      from:
        - podSelector:
            matchLabels:
              {{- include "service.ownPods" . | nindent 14 }}
        {{- with .Values.networkPolicy.httpFrom }}
        {{- include "workload.peers" (dict "root" $ "peers" .) | nindent 8 }}
        {{- end }}
    {{- with .Values.networkPolicy.metricsFrom }}
    - ports:
        - {port: metrics, protocol: TCP}
      from:
        {{- include "workload.peers" (dict "root" $ "peers" .) | nindent 8 }}
    {{- end }}
  egress:
    {{- include "workload.dnsEgress" . | nindent 4 }}
    {{- include "service.ownEgress" . | nindent 4 }}
    {{- include "service.storeEgress" . | nindent 4 }}
    {{- include (printf "%s.egress" .Chart.Name) . | nindent 4 }}
    {{- if and .Values.auth.required .Values.auth.oidc.jwksUrl }}
    {{- include "workload.egress" (dict "root" . "port" (include "workload.urlPort" .Values.auth.oidc.jwksUrl) "peers" .Values.networkPolicy.authTo) | nindent 4 }}
    {{- end }}
    {{- if .Values.tracing.endpoint }}
    {{- include "workload.egress" (dict "root" . "port" (include "workload.urlPort" .Values.tracing.endpoint) "peers" .Values.networkPolicy.tracingTo) | nindent 4 }}
    {{- end }}
    {{- with .Values.networkPolicy.extraEgress }}
    {{- include "workload.peers" (dict "root" $ "peers" .) | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "service.ownPods" -}}
app.kubernetes.io/name: {{ include "workload.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "service.ownEgress" -}}
{{- $own := dict "podSelector" (dict "matchLabels" (include "service.ownPods" . | fromYaml)) -}}
{{ include "workload.egress" (dict "root" . "port" .Values.service.port "peers" (list $own)) }}
{{- end }}

{{/*
To the database and the lock Redis: the bundled ones by label, external ones by the peers named in the values. Pods among
the peers are also let through at the port that they call by its name, so that no number has to be said twice.
*/}}
{{- define "service.storeEgress" -}}
{{- range $bundled, $keys := dict "postgres" (list "externalDatabase" "databaseTo") "redis" (list "externalRedis" "redisTo") }}
{{- $peers := index $.Values.networkPolicy (last $keys) }}
{{- $port := (index $.Values (first $keys)).port }}
{{- if and (eq $bundled "redis") $.Values.global.lockRedis.port }}
{{- $port = $.Values.global.lockRedis.port }}
{{- end }}
{{- if (index $.Values $bundled).enabled }}
{{- $store := index $.Subcharts $bundled }}
{{- $labels := include "workload.selectorLabels" (dict "root" $store "component" "database") | fromYaml }}
{{- $peers = list (dict "podSelector" (dict "matchLabels" $labels)) }}
{{- $port = include (printf "%s.port" $bundled) $store }}
{{- end }}
{{ include "workload.egress" (dict "root" $ "port" $port "portName" $bundled "peers" $peers) }}
{{- if not (index $.Values $bundled).enabled }}
{{- range (index $.Values (first $keys)).morePorts }}
{{ include "workload.egress" (dict "root" $ "port" . "peers" $peers) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The way of migrations that run before the release they belong to: the policy in force may still be that of a release whose
database was another one. Policies add up, so this one takes nothing away.
*/}}
{{- define "migrations.networkPolicy" -}}
{{- if and .Values.migrations.enabled .Values.migrations.hook .Values.networkPolicy.enabled }}
{{- $annotations := merge (dict "helm.sh/hook-weight" "-10") (include "migrations.hookAnnotations" . | fromYaml) }}
{{ include "workload.head" (dict "root" . "component" "migrations" "api" "networking.k8s.io/v1" "kind" "NetworkPolicy" "name" (printf "%s-migrate" (include "workload.fullname" .)) "annotations" $annotations) }}
spec:
  podSelector:
    matchLabels:
      {{- include "workload.selectorLabels" (dict "root" . "component" "migrations") | nindent 6 }}
  policyTypes: [Egress]
  egress:
    {{- include "workload.dnsEgress" . | nindent 4 }}
    {{- include "service.storeEgress" . | nindent 4 }}
{{- end }}
{{- end }}
