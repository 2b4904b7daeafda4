{{/* One container of the service's image. Takes {root, name, rest}, optionally writable and secrets. */}}
{{- define "service.container" -}}
{{- $root := .root -}}
name: {{ .name | quote }}
{{ include "workload.imageFields" (dict "root" .root "image" .root.Values.image) }}
securityContext:
  {{- include "workload.containerSecurity" . | nindent 2 }}
{{- .rest | nindent 0 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- range $store, $external := dict "database" .root.Values.externalDatabase "redis" .root.Values.externalRedis }}
  {{- if $external.tlsSecret }}
  - {name: {{ $store }}-tls, mountPath: {{ include "service.tlsPath" $store }}, readOnly: true}
  {{- end }}
  {{- end }}
  {{- range $volume, $_ := .secrets }}
  - {name: {{ $volume }}, mountPath: {{ include "service.secretPath" $volume }}, readOnly: true}
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- include "workload.filled" (dict "root" $root "list" .) | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What all pods of the service share. Takes {root, container}, optionally serviceAccount, sidecars and secrets. */}}
{{- define "service.podFields" -}}
{{- $root := .root -}}
{{ include "workload.podFields" (merge (dict "uid" 65532) .) }}
containers:
  - {{ .container | nindent 4 | trim }}
  {{- with .sidecars }}
  {{- include "workload.filled" (dict "root" $root "list" .) | nindent 2 }}
  {{- end }}
volumes:
  {{- include "workload.scratch" (dict "name" "tmp" "size" "64Mi") | nindent 2 }}
  {{- range $store, $external := dict "database" .root.Values.externalDatabase "redis" .root.Values.externalRedis }}
  {{- with $external.tlsSecret }}
  - name: {{ $store }}-tls
    secret: {secretName: {{ . | quote }}, defaultMode: 0440}
  {{- end }}
  {{- end }}
  {{- range $volume, $secret := .secrets }}
  - name: {{ $volume | quote }}
    secret: {secretName: {{ $secret | quote }}, defaultMode: 0440}
  {{- end }}
  {{- with .root.Values.extraVolumes }}
  {{- include "workload.filled" (dict "root" $root "list" .) | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "service.probe" -}}
httpGet: {path: {{ .path }}, port: http}
{{ toYaml .timing }}
{{- end }}

{{- define "service.serveContainer" -}}
args: ["serve"]
env:
  {{- include "service.env" . | nindent 2 }}
ports:
  - {name: http, containerPort: {{ .Values.service.port }}, protocol: TCP}
  - {name: metrics, containerPort: {{ .Values.metrics.port }}, protocol: TCP}
startupProbe:
  {{- include "service.probe" (dict "path" "/livez" "timing" .Values.probes.startup) | nindent 2 }}
livenessProbe:
  {{- include "service.probe" (dict "path" "/livez" "timing" .Values.probes.liveness) | nindent 2 }}
readinessProbe:
  {{- include "service.probe" (dict "path" "/readyz" "timing" .Values.probes.readiness) | nindent 2 }}
{{- if .Values.shutdown.preStopSeconds }}
lifecycle:
  preStop:
    sleep: {seconds: {{ int64 .Values.shutdown.preStopSeconds }}}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{- define "service.deployment" -}}
{{- include "service.validate" . -}}
{{- $labels := dict "root" . "component" "api" -}}
{{- $selector := include "workload.selectorLabels" $labels | fromYaml -}}
{{- $secrets := include "service.tokenSecrets" . | fromYaml -}}
{{- $container := include "service.container" (dict "root" . "name" .Chart.Name "writable" .Values.liveUpdate "secrets" $secrets "rest" (include "service.serveContainer" .)) -}}
{{ include "workload.head" (merge (dict "api" "apps/v1" "kind" "Deployment" "name" (include "workload.fullname" .) "annotations" .Values.annotations) $labels) }}
spec:
  replicas: {{ include "service.replicas" . }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- toYaml $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- merge (dict "app.kubernetes.io/part-of" "shop") $selector .Values.podLabels (include "workload.commonLabels" . | fromYaml) | toYaml | nindent 8 }}
      annotations:
        {{- merge dict .Values.podAnnotations (dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString .Values.metrics.port)) | toYaml | nindent 8 }}
    spec:
      {{- include "service.podFields" (dict "root" . "serviceAccount" (include "service.serviceAccount" .) "container" $container "sidecars" .Values.sidecars "secrets" $secrets) | nindent 6 }}
      {{- with .Values.initContainers }}
      initContainers:
        {{- include "workload.filled" (dict "root" $ "list" .) | nindent 8 }}
      {{- end }}
      terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
      topologySpreadConstraints:
        {{- include "service.spread" (dict "key" .Values.topologySpread.topologyKey "unsatisfiable" .Values.topologySpread.whenUnsatisfiable "selector" $selector) | nindent 8 }}
        {{- with .Values.topologySpread.zones }}
        {{- include "service.spread" (dict "key" "topology.kubernetes.io/zone" "unsatisfiable" . "selector" $selector) | nindent 8 }}
        {{- end }}
{{- end }}

{{/* A node that no pod of ours can run on does not count: else pods wait for ever beside a tainted node. */}}
{{- define "service.spread" -}}
- maxSkew: 1
  topologyKey: {{ .key }}
  whenUnsatisfiable: {{ .unsatisfiable }}
  nodeTaintsPolicy: Honor
  labelSelector:
    matchLabels:
      {{- toYaml .selector | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}

{{- define "service.serviceAccountResource" -}}
{{- if .Values.serviceAccount.create }}
{{ include "workload.head" (dict "root" . "component" "api" "api" "v1" "kind" "ServiceAccount" "name" (include "service.serviceAccount" .) "annotations" .Values.serviceAccount.annotations) }}
automountServiceAccountToken: false
{{- end }}
{{- end }}
