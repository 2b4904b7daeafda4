{{- define "tempo.config" -}}
server:
  http_listen_port: 3200
distributor:
  receivers:
    otlp:
      protocols:
        grpc: {endpoint: "0.0.0.0:4317"}
        http: {endpoint: "0.0.0.0:4318"}
compactor:
  compaction:
    block_retention: {{ .Values.tempo.retention }}
storage:
  trace:
    backend: local
    local: {path: /var/tempo/blocks}
    wal: {path: /var/tempo/wal}
usage_report:
  reporting_enabled: false
{{- if .Values.prometheus.enabled }}
# Rate, errors and duration of every span, and who calls whom: Grafana's service graph.
metrics_generator:
  storage:
    path: /var/tempo/generator
    remote_write:
      - url: http://{{ include "observability.name" (list . "prometheus") }}:9090/api/v1/write
        send_exemplars: true
overrides:
  defaults:
    metrics_generator:
      processors: [service-graphs, span-metrics]
      # As in the exemplars of the services, so that one link of Grafana's fits all.
      trace_id_label_name: trace_id
{{- end }}
{{- end }}

{{- define "tempo.container" -}}
name: tempo
args: ["-config.file=/etc/tempo/tempo.yaml"]
startupProbe:
  httpGet: {path: /ready, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 90
livenessProbe:
  tcpSocket: {port: http}
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /ready, port: http}
  timeoutSeconds: 5
volumeMounts:
  - {name: data, mountPath: /var/tempo}
  - {name: config, mountPath: /etc/tempo, readOnly: true}
{{- end }}

{{- define "tempo.volumes" -}}
- name: config
  configMap:
    name: {{ include "observability.name" (list . "tempo") | quote }}
{{- end }}

{{- define "jaeger.container" -}}
name: jaeger
args: ["--memory.max-traces={{ int64 .Values.jaeger.maxTraces }}"]
env:
  - {name: COLLECTOR_OTLP_ENABLED, value: "true"}
startupProbe:
  httpGet: {path: /, port: 14269}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /, port: 14269}
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /, port: 14269}
  timeoutSeconds: 5
volumeMounts:
  - {name: data, mountPath: /tmp}
{{- end }}

{{- define "traces.ports" -}}
otlp-grpc: 4317
otlp-http: 4318
http: {{ .http }}
{{- end }}

{{/* Whoever may send traces, and whoever may ask for them. */}}
{{- define "traces.ingress" -}}
{{- range $port := list "otlp-grpc" "otlp-http" }}
{{ include "observability.ingress" (dict "root" $ "port" $port "peers" $.Values.networkPolicy.tracesFrom) }}
{{- end }}
{{ include "observability.ingress" (dict "root" . "port" "http" "peers" .Values.networkPolicy.queryFrom) }}
{{- end }}
