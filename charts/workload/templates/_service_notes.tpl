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
