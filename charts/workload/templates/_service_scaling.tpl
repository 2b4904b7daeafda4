{{/*
How many pods: with an autoscaler as many as there are, within its bounds. Left out, the number would fall to one when the
autoscaler is switched on, and a first installation would begin with one.
*/}}
{{- define "service.replicas" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if $scaling.enabled -}}
{{- $running := lookup "apps/v1" "Deployment" .Release.Namespace (include "workload.fullname" .) | default dict -}}
{{- $wanted := dig "spec" "replicas" $scaling.minReplicas $running | int64 -}}
{{- min (max $wanted (int64 $scaling.minReplicas)) (int64 $scaling.maxReplicas) -}}
{{- else -}}
{{- int64 .Values.replicaCount -}}
{{- end -}}
{{- end }}

{{- define "service.autoscaler" -}}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.makeAutoscaler }}
{{ include "workload.head" (dict "root" . "component" "api" "api" "autoscaling/v2" "kind" "HorizontalPodAutoscaler" "name" (include "workload.fullname" .)) }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "workload.fullname" . | quote }}
  minReplicas: {{ int64 .Values.autoscaling.minReplicas }}
  maxReplicas: {{ int64 .Values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ int64 .Values.autoscaling.targetCPUUtilizationPercentage }}}
    {{- with .Values.autoscaling.metrics }}
    {{- include "workload.filled" (dict "root" $ "list" .) | nindent 4 }}
    {{- end }}
  {{- with .Values.autoscaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "service.disruptionBudget" -}}
{{- $labels := dict "root" . "component" "api" -}}
{{- if .Values.podDisruptionBudget.enabled }}
{{ include "workload.head" (merge (dict "api" "policy/v1" "kind" "PodDisruptionBudget" "name" (include "workload.fullname" .)) $labels) }}
spec:
  maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "workload.selectorLabels" $labels | nindent 6 }}
{{- end }}
{{- end }}
