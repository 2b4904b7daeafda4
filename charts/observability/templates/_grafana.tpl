{{- define "grafana.secretName" -}}
{{- .Values.grafana.auth.existingSecret | default (include "observability.name" (list . "grafana")) -}}
{{- end }}

{{/*
The data sources know each other: an exemplar leads to its trace, a trace to its metrics and, where there is a Loki, to its
logs and back. The uids are what dashboards name.
*/}}
{{- define "grafana.datasources" -}}
{{- $traces := include "observability.traceBackend" . -}}
apiVersion: 1
datasources:
{{- if .Values.prometheus.enabled }}
  - name: Prometheus
    uid: prometheus
    type: prometheus
    url: http://{{ include "observability.name" (list . "prometheus") }}:9090
    isDefault: true
    jsonData:
      httpMethod: POST
      timeInterval: {{ .Values.prometheus.scrapeInterval }}
      {{- with $traces }}
      exemplarTraceIdDestinations:
        - {name: trace_id, datasourceUid: {{ . }}}
      {{- end }}
{{- end }}
{{- with $traces }}
  - name: {{ title . | quote }}
    uid: {{ . }}
    type: {{ . }}
    url: http://{{ include "observability.name" (list $ .) }}:{{ ternary 3200 16686 (eq . "tempo") }}
    jsonData:
      nodeGraph: {enabled: true}
      {{- if $.Values.prometheus.enabled }}
      {{- if eq . "tempo" }}
      serviceMap: {datasourceUid: prometheus}
      {{- end }}
      tracesToMetrics:
        datasourceUid: prometheus
        spanStartTimeShift: -5m
        spanEndTimeShift: 5m
        tags: [{key: service.name, value: job}]
        queries:
          - name: Requests a second
            query: sum by (route, status) (rate(http_server_request_duration_seconds_count{$$__tags}[5m]))
          - name: Wait for locks, 95th percentile
            query: histogram_quantile(0.95, sum by (lock, le) (rate(fencelock_acquire_duration_seconds_bucket{$$__tags}[5m])))
      {{- end }}
      {{- if $.Values.grafana.lokiUrl }}
      tracesToLogsV2:
        datasourceUid: loki
        spanStartTimeShift: -5m
        spanEndTimeShift: 5m
        filterByTraceID: true
        tags: [{key: service.name, value: service_name}]
      {{- end }}
{{- end }}
{{- with .Values.grafana.lokiUrl }}
  - name: Loki
    uid: loki
    type: loki
    url: {{ . }}
    {{- if $traces }}
    jsonData:
      derivedFields:
        - name: trace_id
          matcherRegex: '"trace_id": ?"([0-9a-f]{32})"'
          url: $${__value.raw}
          datasourceUid: {{ $traces }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "grafana.providers" -}}
apiVersion: 1
providers:
  - name: shop
    folder: Shop
    type: file
    allowUiUpdates: false
    updateIntervalSeconds: 30
    options: {path: /var/lib/dashboards}
{{- end }}

{{- define "grafana.container" -}}
name: grafana
env:
  - {name: GF_ANALYTICS_REPORTING_ENABLED, value: "false"}
  - {name: GF_ANALYTICS_CHECK_FOR_UPDATES, value: "false"}
  - {name: GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES, value: "false"}
  - {name: GF_PLUGINS_PREINSTALL_DISABLED, value: "true"}
  - {name: GF_NEWS_NEWS_FEED_ENABLED, value: "false"}
  {{- if .Values.grafana.anonymousAdmin }}
  - {name: GF_AUTH_ANONYMOUS_ENABLED, value: "true"}
  - {name: GF_AUTH_ANONYMOUS_ORG_ROLE, value: Admin}
  {{- end }}
  {{- include "workload.secretEnv" (dict "env" "GF_SECURITY_ADMIN_USER" "secret" (include "grafana.secretName" .) "key" "username") | nindent 2 }}
  {{- include "workload.secretEnv" (dict "env" "GF_SECURITY_ADMIN_PASSWORD" "secret" (include "grafana.secretName" .) "key" "password") | nindent 2 }}
startupProbe:
  httpGet: {path: /api/health, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 90
livenessProbe:
  httpGet: {path: /api/health, port: http}
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /api/health, port: http}
  timeoutSeconds: 5
volumeMounts:
  - {name: data, mountPath: /var/lib/grafana}
  - {name: tmp, mountPath: /tmp}
  - {name: config, mountPath: /etc/grafana/provisioning/datasources/datasources.yaml, subPath: datasources.yaml, readOnly: true}
  - {name: config, mountPath: /etc/grafana/provisioning/dashboards/providers.yaml, subPath: providers.yaml, readOnly: true}
  - {name: dashboards, mountPath: /var/lib/dashboards, readOnly: true}
{{- end }}

{{- define "grafana.volumes" -}}
- name: config
  configMap:
    name: {{ include "observability.name" (list . "grafana") | quote }}
{{ include "workload.scratch" (dict "name" "tmp" "size" "64Mi") }}
{{ include "observability.optionalFiles" (dict "name" "dashboards" "from" .Values.grafana.dashboardsFrom) }}
{{- end }}

{{- define "grafana.egress" -}}
{{- if .Values.prometheus.enabled }}
{{ include "observability.egress" (dict "root" . "part" "prometheus" "port" "http") }}
{{- end }}
{{- with include "observability.traceBackend" . }}
{{ include "observability.egress" (dict "root" $ "part" . "port" "http") }}
{{- end }}
{{- with .Values.grafana.lokiUrl }}
{{ include "workload.egress" (dict "root" $ "port" (include "workload.urlPort" .)) }}
{{- end }}
{{- end }}
