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
    {{- if .Values.tracing.endpoint }}
    {{- include "workload.egress" (dict "root" . "port" (include "workload.urlPort" .Values.tracing.endpoint) "peers" .Values.networkPolicy.tracingTo) | nindent 4 }}
    {{- end }}
    {{- with .Values.networkPolicy.extraEgress }}
    {{- include "workload.peers" (dict "root" $ "peers" .) | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "service.ownPods" -}}
app.kubernetes.io/name: {{ include "workload.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "service.ownEgress" -}}
{{- $own := dict "podSelector" (dict "matchLabels" (include "service.ownPods" . | fromYaml)) -}}
{{ include "workload.egress" (dict "root" . "port" .Values.service.port "peers" (list $own)) }}
{{- end }}

{{/* To the database and the lock Redis: the bundled ones by label, external ones by the peers named in the values. */}}
{{- define "service.storeEgress" -}}
{{- range $bundled, $keys := dict "postgres" (list "externalDatabase" "databaseTo") "redis" (list "externalRedis" "redisTo") }}
{{- $peers := index $.Values.networkPolicy (last $keys) }}
{{- $port := (index $.Values (first $keys)).port }}
{{- if (index $.Values $bundled).enabled }}
{{- $store := index $.Subcharts $bundled }}
{{- $labels := include "workload.selectorLabels" (dict "root" $store "component" "database") | fromYaml }}
{{- $peers = list (dict "podSelector" (dict "matchLabels" $labels)) }}
{{- $port = $store.Values.port }}
{{- end }}
{{ include "workload.egress" (dict "root" $ "port" $port "peers" $peers) }}
{{- end }}
{{- end }}
