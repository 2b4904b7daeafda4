{{/* The order and the invoice service: the same resources, told apart by their charts' names and values. */}}

{{/* Refuses values that contradict each other, and names them. */}}
{{- define "service.validate" -}}
{{- $values := .Values -}}
{{- range $bundled, $external := dict "postgres" "externalDatabase" "redis" "externalRedis" -}}
{{- $enabled := (index $values $bundled).enabled -}}
{{- $other := index $values $external -}}
{{- $given := or $other.existingSecret $other.host -}}
{{- if and $enabled $given -}}
{{- fail (printf "%s.enabled and %s exclude each other: switch the bundled one off, or leave %s.existingSecret and %s.host empty" $bundled $external $external $external) -}}
{{- else if not (or $enabled $given) -}}
{{- fail (printf "%s.enabled is false, so %s.existingSecret or %s.host is needed" $bundled $external $external) -}}
{{- else if and $other.existingSecret $other.host -}}
{{- fail (printf "%s.existingSecret and %s.host exclude each other: the Secret says where the server is" $external $external) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.migrations.hook (not .Values.externalDatabase.existingSecret) -}}
{{- fail "migrations.hook needs externalDatabase.existingSecret: a hook runs before this release's own database and Secrets exist" -}}
{{- end -}}
{{- $stop := .Values.shutdown -}}
{{- $needed := add $stop.preStopSeconds $stop.drainSeconds $stop.requestSeconds $stop.closeSeconds -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, but preStopSeconds + drainSeconds + requestSeconds + closeSeconds of shutdown need %v" .Values.terminationGracePeriodSeconds $needed) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- end }}

{{/* Which Secret says how to reach the database. */}}
{{- define "service.databaseSecret" -}}
{{- if .Values.postgres.enabled -}}
{{- include "postgres.secretName" .Subcharts.postgres -}}
{{- else -}}
{{- tpl .Values.externalDatabase.existingSecret . | default (printf "%s-database" (include "workload.fullname" .)) -}}
{{- end -}}
{{- end }}

{{/* Which Secret says how to reach the lock Redis. */}}
{{- define "service.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{- include "redis.secretName" .Subcharts.redis -}}
{{- else -}}
{{- tpl .Values.externalRedis.existingSecret . | default (printf "%s-redis" (include "workload.fullname" .)) -}}
{{- end -}}
{{- end }}

{{- define "service.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "workload.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* The settings of the service as environment variables: config.logLevel becomes ORDER_LOG_LEVEL. */}}
{{- define "service.env" -}}
{{- $prefix := upper .Chart.Name -}}
{{- $settings := merge (dict "port" .Values.service.port "metricsPort" .Values.metrics.port "drainSeconds" .Values.shutdown.drainSeconds "shutdownSeconds" .Values.shutdown.requestSeconds) (include (printf "%s.settings" .Chart.Name) . | fromYaml) .Values.config -}}
{{ include "workload.secretEnv" (dict "env" (printf "%s_DATABASE_URL" $prefix) "secret" (include "service.databaseSecret" .) "key" "uri") }}
{{ include "workload.secretEnv" (dict "env" (printf "%s_REDIS_URL" $prefix) "secret" (include "service.redisSecret" .) "key" "uri") }}
{{- range $key, $value := $settings }}
- name: {{ printf "%s_%s" $prefix (snakecase $key | upper) }}
  value: {{ $value | toJson | trimAll "\"" | quote }}
{{- end }}
{{- include "service.tracingEnv" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "service.tracingEnv" -}}
{{- if .Values.tracing.endpoint }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: OTEL_SERVICE_NAME
  value: {{ .Chart.Name }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: service.namespace=shop,service.version={{ .Chart.AppVersion }},service.instance.id=$(POD_NAME),k8s.pod.name=$(POD_NAME),k8s.namespace.name={{ .Release.Namespace }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.tracing.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .Values.tracing.protocol }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .Values.tracing.sampler }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .Values.tracing.samplerArgument | quote }}
{{- end }}
{{- end }}

{{/* One container of the service's image. Takes {root, name, rest}, optionally writable. */}}
{{- define "service.container" -}}
name: {{ .name }}
{{ include "workload.imageFields" (dict "root" .root "image" .root.Values.image) }}
securityContext:
  {{- include "workload.containerSecurity" . | nindent 2 }}
{{- .rest | nindent 0 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{/* What all pods of the service share. Takes {root, container}, optionally serviceAccount. */}}
{{- define "service.podFields" -}}
{{ include "workload.podFields" (merge (dict "uid" 65532) .) }}
containers:
  - {{ .container | nindent 4 | trim }}
volumes:
  {{- include "workload.scratch" (dict "name" "tmp" "size" "64Mi") | nindent 2 }}
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
    sleep: {seconds: {{ .Values.shutdown.preStopSeconds }}}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{- define "service.deployment" -}}
{{- include "service.validate" . -}}
{{- $labels := dict "root" . "component" "api" -}}
{{- $container := include "service.container" (dict "root" . "name" .Chart.Name "writable" .Values.liveUpdate "rest" (include "service.serveContainer" .)) -}}
{{ include "workload.head" (merge (dict "api" "apps/v1" "kind" "Deployment" "name" (include "workload.fullname" .)) $labels) }}
spec:
  {{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicaCount }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- include "workload.selectorLabels" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- with .Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "workload.selectorLabels" $labels | nindent 8 }}
        app.kubernetes.io/part-of: shop
      annotations:
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .Values.metrics.port | quote }}
    spec:
      {{- include "service.podFields" (dict "root" . "serviceAccount" (include "service.serviceAccount" .) "container" $container) | nindent 6 }}
      terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: {{ .Values.topologySpread.topologyKey }}
          whenUnsatisfiable: {{ .Values.topologySpread.whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "workload.selectorLabels" $labels | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
{{- end }}

{{- define "service.service" -}}
{{- $labels := dict "root" . "component" "api" -}}
{{ include "workload.head" (merge (dict "api" "v1" "kind" "Service" "name" (include "workload.fullname" .) "annotations" .Values.service.annotations) $labels) }}
spec:
  type: {{ .Values.service.type }}
  selector:
    {{- include "workload.selectorLabels" $labels | nindent 4 }}
  ports:
    - {name: http, port: {{ .Values.service.port }}, targetPort: http, protocol: TCP, appProtocol: http}
    - {name: metrics, port: {{ .Values.metrics.port }}, targetPort: metrics, protocol: TCP, appProtocol: http}
{{- end }}

{{- define "service.serviceAccountResource" -}}
{{- if .Values.serviceAccount.create }}
{{ include "workload.head" (dict "root" . "component" "api" "api" "v1" "kind" "ServiceAccount" "name" (include "service.serviceAccount" .) "annotations" .Values.serviceAccount.annotations) }}
automountServiceAccountToken: false
{{- end }}
{{- end }}

{{- define "service.autoscaler" -}}
{{- if .Values.autoscaling.enabled }}
{{ include "workload.head" (dict "root" . "component" "api" "api" "autoscaling/v2" "kind" "HorizontalPodAutoscaler" "name" (include "workload.fullname" .)) }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "workload.fullname" . }}
  minReplicas: {{ .Values.autoscaling.minReplicas }}
  maxReplicas: {{ .Values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .Values.autoscaling.targetCPUUtilizationPercentage }}}
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

{{/* The Secrets for external servers that the values describe: <name>-database and <name>-redis. */}}
{{- define "service.connections" -}}
{{- range $suffix, $scheme := dict "database" "postgresql" "redis" "redis" }}
{{- $external := index $.Values (ternary "externalRedis" "externalDatabase" (eq $suffix "redis")) }}
{{- if $external.host }}
---
{{ include "workload.connectionSecret" (dict "root" $ "component" "api" "name" (printf "%s-%s" (include "workload.fullname" $) $suffix) "scheme" (ternary "rediss" $scheme (eq true $external.tls)) "host" $external.host "port" $external.port "username" $external.username "given" $external.password "database" $external.database) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The first connections may be refused: NetworkPolicies come to know a new pod a moment after it has started. */}}
{{- define "service.testScript" -}}
import sys, time, urllib.request
deadline = time.monotonic() + 30
for path in ("/ping", "/livez", "/readyz"):
    while True:
        try:
            with urllib.request.urlopen(sys.argv[1] + path, timeout=10) as reply:
                print(path, reply.status, reply.read(500).decode(), flush=True)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise
            print(path, error, flush=True)
            time.sleep(1)
{{- end }}

{{- define "service.test" -}}
{{- $url := printf "http://%s:%v" (include "workload.fullname" .) .Values.service.port -}}
{{- $command := list "python" "-c" (include "service.testScript" .) $url -}}
{{- $rest := dict "command" $command "resources" .Values.migrations.resources | toYaml -}}
{{ include "workload.head" (dict "root" . "component" "test" "api" "v1" "kind" "Pod" "name" (printf "%s-test" (include "workload.fullname" .)) "annotations" (include "workload.testHook" . | fromYaml)) }}
spec:
  restartPolicy: Never
  {{- include "service.podFields" (dict "root" . "container" (include "service.container" (dict "root" . "name" "test" "rest" $rest))) | nindent 2 }}
{{- end }}

{{/* How to reach the service, for NOTES. */}}
{{- define "service.notes" -}}
{{- $name := include "workload.fullname" . -}}
{{- $at := printf "--namespace %s" .Release.Namespace -}}
{{ .Chart.Name | title }} service: {{ $name }}:{{ .Values.service.port }} in the cluster. From here:

  kubectl port-forward {{ $at }} service/{{ $name }} {{ .Values.service.port }}:{{ .Values.service.port }}
  curl -i http://127.0.0.1:{{ .Values.service.port }}/readyz       # API pages: http://127.0.0.1:{{ .Values.service.port }}/docs

Is it all there?

  kubectl rollout status {{ $at }} deployment/{{ $name }} --timeout 180s
  helm test {{ .Release.Name }} {{ $at }}

Schema:    {{ ternary (printf "Job %s-migrate-..., once a release; pods are not ready before it is done." $name) "migrations.enabled is false: run `migrate` yourself, pods are not ready before." .Values.migrations.enabled }}
Database:  Secret {{ include "service.databaseSecret" . }}{{ if .Values.postgres.enabled }} (bundled PostgreSQL: one pod, no backups){{ end }}
Lock Redis: Secret {{ include "service.redisSecret" . }}
{{- if .Values.config.failpoints }}

WARNING: config.failpoints is set: this release breaks on purpose.
{{- end }}
{{- end }}

{{/* Said by the release that brings a Redis of its own. Takes {root, other}. */}}
{{- define "service.redisNotes" -}}
{{- if .root.Values.redis.enabled }}

This release brings its own lock Redis. A lock protects nothing unless BOTH services use the same Redis: install the
{{ .other }} service with

  --set redis.enabled=false --set externalRedis.existingSecret={{ include "service.redisSecret" .root }}

(the same namespace; charts/shop installs both that way by itself).
{{- else }}

The {{ .other }} service must use the same lock Redis, or the lock protects nothing.
{{- end }}
{{- end }}
