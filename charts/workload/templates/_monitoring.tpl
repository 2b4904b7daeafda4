{{/* Dashboards and alerts are files of the chart: files/dashboards/*.json and files/alerts/*.yaml. */}}
{{- define "monitoring.dashboards" -}}
{{- $files := .Files.Glob "files/dashboards/*.json" }}
{{- if and .Values.dashboards.enabled $files }}
{{ include "workload.head" (dict "root" . "component" "monitoring" "api" "v1" "kind" "ConfigMap" "name" (printf "%s-dashboards" (include "workload.fullname" .)) "labels" .Values.dashboards.labels) }}
data:
  {{- $files.AsConfig | nindent 2 }}
{{- end }}
{{- end }}

{{/* The rule groups of one file, with the thresholds and runbook links that the values ask for. Takes {root, content}. */}}
{{- define "monitoring.ruleGroups" -}}
{{- $alerts := .root.Values.alerts -}}
{{- $file := fromYaml .content -}}
{{- range $group := $file.groups -}}
{{- range $rule := $group.rules -}}
{{- if hasKey $alerts.thresholds ($rule.alert | default "") -}}
{{- $threshold := index $alerts.thresholds $rule.alert | toJson -}}
{{- $_ := set $rule "expr" (regexReplaceAll "[0-9.]+\\s*$" $rule.expr $threshold) -}}
{{- end -}}
{{- if and $alerts.runbookBaseUrl ($rule.annotations).runbook_url -}}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s/%s" (trimSuffix "/" $alerts.runbookBaseUrl) $rule.annotations.runbook_url) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $file.groups -}}
{{- end }}

{{/* The alert rules for a Prometheus that reads files; Prometheus Operator takes the PrometheusRule below. */}}
{{- define "monitoring.alertsConfigMap" -}}
{{- $files := .Files.Glob "files/alerts/*.yaml" }}
{{- if and .Values.alerts.configMap.enabled $files }}
{{ include "workload.head" (dict "root" . "component" "monitoring" "api" "v1" "kind" "ConfigMap" "name" (printf "%s-alerts" (include "workload.fullname" .))) }}
data:
  {{- range $path, $content := $files }}
  {{ base $path }}: |
    groups:
      {{- include "monitoring.ruleGroups" (dict "root" $ "content" (toString $content)) | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "monitoring.prometheusRule" -}}
{{- $files := .Files.Glob "files/alerts/*.yaml" }}
{{- if and .Values.alerts.prometheusRule.enabled $files }}
{{ include "workload.head" (dict "root" . "component" "monitoring" "api" "monitoring.coreos.com/v1" "kind" "PrometheusRule" "name" (include "workload.fullname" .) "labels" .Values.alerts.prometheusRule.labels) }}
spec:
  groups:
    {{- range $path, $content := $files }}
    {{- include "monitoring.ruleGroups" (dict "root" $ "content" (toString $content)) | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "monitoring.serviceMonitor" -}}
{{- if .Values.metrics.serviceMonitor.enabled }}
{{ include "workload.head" (dict "root" . "component" "monitoring" "api" "monitoring.coreos.com/v1" "kind" "ServiceMonitor" "name" (include "workload.fullname" .) "labels" .Values.metrics.serviceMonitor.labels) }}
spec:
  selector:
    matchLabels:
      {{- include "workload.selectorLabels" (dict "root" . "component" "metrics") | nindent 6 }}
  jobLabel: app.kubernetes.io/name
  scrapeProtocols: [OpenMetricsText1.0.0, PrometheusText0.0.4]
  endpoints:
    - port: metrics
      path: /metrics
      interval: {{ .Values.metrics.serviceMonitor.interval }}
{{- end }}
{{- end }}

{{/* For Prometheus Operator, pods as they are: no Service is needed. Takes {root, component}. */}}
{{- define "monitoring.podMonitorOf" -}}
{{- $monitor := .root.Values.metrics.podMonitor -}}
{{ include "workload.head" (dict "root" .root "component" "monitoring" "api" "monitoring.coreos.com/v1" "kind" "PodMonitor" "name" (include "workload.fullname" .root) "labels" $monitor.labels) }}
spec:
  selector:
    matchLabels:
      {{- include "workload.selectorLabels" . | nindent 6 }}
  jobLabel: app.kubernetes.io/name
  scrapeProtocols: [OpenMetricsText1.0.0, PrometheusText0.0.4]
  podMetricsEndpoints:
    - port: metrics
      path: /metrics
      interval: {{ $monitor.interval }}
{{- end }}

{{- define "monitoring.podMonitor" -}}
{{- if .Values.metrics.podMonitor.enabled }}
{{ include "monitoring.podMonitorOf" (dict "root" . "component" "api") }}
{{- end }}
{{- end }}
