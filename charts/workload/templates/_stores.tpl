{{/* Redis and Postgres: one pod that keeps its data on a volume. Both charts fill in the container. */}}

{{/* The Secret with host, port, username, password, database and uri: one that exists, or the chart's own. */}}
{{- define "store.secretName" -}}
{{- tpl .Values.auth.existingSecret . | default (include "workload.fullname" .) -}}
{{- end }}

{{- define "store.service" -}}
{{ include "workload.head" (dict "root" .root "component" "database" "api" "v1" "kind" "Service" "name" (include "workload.fullname" .root)) }}
spec:
  # There is one pod: whoever waits until a probe has called it ready is only later.
  publishNotReadyAddresses: true
  selector:
    {{- include "workload.selectorLabels" (dict "root" .root "component" "database") | nindent 4 }}
  ports:
    - {name: {{ .portName }}, port: {{ .port }}, targetPort: {{ .portName }}, protocol: TCP}
{{- end }}

{{/*
Only the named clients may connect, and the store itself calls nobody: Egress without a rule. An empty list of rules would
mean the same, but the cluster drops it, and whoever compares would see a difference for ever. Takes {root, port}.
*/}}
{{- define "store.networkPolicy" -}}
{{- $root := .root -}}
{{ include "workload.head" (dict "root" .root "component" "database" "api" "networking.k8s.io/v1" "kind" "NetworkPolicy" "name" (include "workload.fullname" .root)) }}
spec:
  podSelector:
    matchLabels:
      {{- include "workload.selectorLabels" (dict "root" .root "component" "database") | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - {port: {{ .port }}, protocol: TCP}
      from:
        - podSelector:
            matchLabels:
              {{- include "workload.selectorLabels" (dict "root" .root "component" "test") | nindent 14 }}
        {{- with .root.Values.networkPolicy.clients }}
        {{- include "workload.peers" (dict "root" $root "peers" .) | nindent 8 }}
        {{- end }}
    {{- if .root.Values.metrics.enabled }}
    - ports:
        - {port: metrics, protocol: TCP}
      from:
        {{- include "workload.peers" (dict "root" $root "peers" .root.Values.networkPolicy.metricsFrom) | nindent 8 }}
    {{- end }}
{{- end }}

{{/*
Pod and claim templates carry selector labels only: a version in them would restart the store at each chart
release (pod template) or make the upgrade forbidden (claim template).
Takes {root, uid, graceSeconds, mountPath, container, volumes}.
*/}}
{{- define "store.statefulSet" -}}
{{- $selector := include "workload.selectorLabels" (dict "root" .root "component" "database") -}}
{{- $persistence := .root.Values.persistence -}}
{{ include "workload.head" (dict "root" .root "component" "database" "api" "apps/v1" "kind" "StatefulSet" "name" (include "workload.fullname" .root) "annotations" .root.Values.annotations) }}
spec:
  serviceName: {{ include "workload.fullname" .root | quote }}
  replicas: 1
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: Retain
    whenScaled: Retain
  template:
    metadata:
      labels:
        {{- $selector | nindent 8 }}
      {{- with merge dict .root.Values.podAnnotations (.podAnnotations | default dict) (include "store.scrapeAnnotations" .root | fromYaml) }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "workload.podFields" (dict "root" .root "uid" .uid) | nindent 6 }}
      terminationGracePeriodSeconds: {{ int64 .graceSeconds }}
      containers:
        - {{ .container | nindent 10 | trim }}
          {{- include "workload.imageFields" (dict "root" .root "image" .root.Values.image) | nindent 10 }}
          securityContext:
            {{- include "workload.containerSecurity" (dict "root" .root) | nindent 12 }}
          resources:
            {{- toYaml .root.Values.resources | nindent 12 }}
        {{- if .root.Values.metrics.enabled }}
        - {{ include "store.exporter" . | nindent 10 | trim }}
        {{- end }}
      volumes:
        {{- .volumes | nindent 8 }}
        {{- if not $persistence.enabled }}
        {{- include "workload.scratch" (dict "name" "data" "size" $persistence.size) | nindent 8 }}
        {{- else if $persistence.existingClaim }}
        - name: data
          persistentVolumeClaim: {claimName: {{ tpl $persistence.existingClaim .root | quote }}}
        {{- end }}
  {{- if and $persistence.enabled (not $persistence.existingClaim) }}
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- $selector | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $persistence.storageClass }}
        storageClassName: {{ . | quote }}
        {{- end }}
        resources:
          requests:
            storage: {{ $persistence.size }}
  {{- end }}
{{- end }}

{{/*
A pod for `helm test` that asks the store one question as a client would. The first tries may be refused: NetworkPolicies
come to know a new pod a moment after it has started. Takes {root, uid, command, env}.
*/}}
{{- define "store.test" -}}
{{ include "workload.head" (dict "root" .root "component" "test" "api" "v1" "kind" "Pod" "name" (printf "%s-test" (include "workload.fullname" .root)) "annotations" (fromYaml (include "workload.testHook" .))) }}
spec:
  {{- include "workload.podFields" (dict "root" .root "uid" .uid) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: test
      securityContext:
        {{- include "workload.containerSecurity" (dict "root" .root) | nindent 8 }}
      {{- include "workload.imageFields" (dict "root" .root "image" .root.Values.image) | nindent 6 }}
      command: ["sh", "-c", {{ printf "for try in $(seq 30); do %s && exit 0; sleep 1; done; exit 1" .command | quote }}]
      env:
        {{- .env | nindent 8 }}
      resources:
        {{- toYaml .root.Values.resources | nindent 8 }}
{{- end }}

{{- define "store.scrapeAnnotations" -}}
{{- if .Values.metrics.enabled -}}
{{- dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString .Values.metrics.port) | toYaml -}}
{{- end -}}
{{- end }}

{{/* The exporter beside the store: asks it over the loopback, and serves what it learns. Takes {root, exporterEnv}. */}}
{{- define "store.exporter" -}}
{{- $metrics := .root.Values.metrics -}}
name: metrics
{{ include "workload.imageFields" (dict "root" .root "image" $metrics.image) }}
env:
  {{- .exporterEnv | nindent 2 }}
ports:
  - {name: metrics, containerPort: {{ $metrics.port }}, protocol: TCP}
{{- range $probe, $times := dict "startupProbe" (dict "periodSeconds" 2 "failureThreshold" 60) "livenessProbe" (dict "periodSeconds" 10 "failureThreshold" 6) "readinessProbe" (dict "periodSeconds" 5) }}
{{ $probe }}:
  tcpSocket: {port: metrics}
  timeoutSeconds: 5
  {{- toYaml $times | nindent 2 }}
{{- end }}
securityContext:
  {{- include "workload.containerSecurity" (dict "root" .root) | nindent 2 }}
resources:
  {{- toYaml $metrics.resources | nindent 2 }}
{{- end }}

{{- define "store.podMonitor" -}}
{{- if and .Values.metrics.enabled .Values.metrics.podMonitor.enabled }}
{{ include "monitoring.podMonitorOf" (dict "root" . "component" "database") }}
{{- end }}
{{- end }}
