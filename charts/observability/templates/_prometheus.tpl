{{- define "prometheus.namespaces" -}}
{{- .Values.prometheus.namespaces | default (list .Release.Namespace) | toJson -}}
{{- end }}

{{- define "prometheus.config" -}}
global:
  scrape_interval: {{ .Values.prometheus.scrapeInterval }}
  evaluation_interval: {{ .Values.prometheus.scrapeInterval }}
storage:
  exemplars:
    max_exemplars: {{ int64 .Values.prometheus.maxExemplars }}
rule_files:
  - /etc/prometheus/rules/*.yaml
scrape_configs:
  # The same labels that Prometheus Operator gives: dashboards and alerts need not know who scrapes.
  - job_name: pods
    kubernetes_sd_configs:
      - role: pod
        namespaces:
          names: {{ include "prometheus.namespaces" . }}
    relabel_configs:
      - {action: keep, source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true"}
      - {action: keep, source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics}
      - {action: drop, source_labels: [__meta_kubernetes_pod_phase], regex: Pending|Succeeded|Failed}
      - {target_label: job, source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name]}
      - {target_label: namespace, source_labels: [__meta_kubernetes_namespace]}
      - {target_label: pod, source_labels: [__meta_kubernetes_pod_name]}
      - {target_label: container, source_labels: [__meta_kubernetes_pod_container_name]}
      - {target_label: release, source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_instance]}
  - job_name: prometheus
    static_configs:
      - targets: ["127.0.0.1:9090"]
{{- end }}

{{- define "prometheus.container" -}}
name: prometheus
args:
  - --config.file=/etc/prometheus/prometheus.yml
  - --storage.tsdb.path=/prometheus
  - --storage.tsdb.retention.time={{ .Values.prometheus.retention }}
  - --enable-feature=exemplar-storage,auto-reload-config
  - --config.auto-reload-interval=30s
  - --web.enable-remote-write-receiver
startupProbe:
  httpGet: {path: /-/ready, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /-/healthy, port: http}
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /-/ready, port: http}
  timeoutSeconds: 5
volumeMounts:
  - {name: data, mountPath: /prometheus}
  - {name: config, mountPath: /etc/prometheus, readOnly: true}
  - {name: rules, mountPath: /etc/prometheus/rules, readOnly: true}
  - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{/*
Prometheus has to ask the cluster which pods there are. It is the one container here with a token: its own, short-lived,
and good for reading pods only.
*/}}
{{- define "prometheus.volumes" -}}
- name: config
  configMap:
    name: {{ include "observability.name" (list . "prometheus") | quote }}
{{ include "observability.optionalFiles" (dict "name" "rules" "from" .Values.prometheus.rulesFrom) }}
- name: token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end }}

{{- define "prometheus.ingress" -}}
{{ include "observability.ingress" (dict "root" . "port" "http" "peers" .Values.networkPolicy.queryFrom) }}
{{- end }}

{{/* The API server's address is not known here, and a pod may serve its metrics on any port. */}}
{{- define "prometheus.egress" -}}
- ports:
    - {port: 443, protocol: TCP}
    - {port: 6443, protocol: TCP}
- to:
    - namespaceSelector:
        matchExpressions:
          - {key: kubernetes.io/metadata.name, operator: In, values: {{ include "prometheus.namespaces" . }}}
{{- end }}
