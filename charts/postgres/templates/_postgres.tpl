{{- define "postgres.secretName" -}}
{{- include "store.secretName" . -}}
{{- end }}

{{- define "postgres.port" -}}
{{- .Values.port -}}
{{- end }}

{{/* The major version that the tag names; the newest that this chart knows where it names none. */}}
{{- define "postgres.major" -}}
{{- regexFind "^[0-9]+" (.Values.image.tag | toJson | trimAll "\"") | default .Chart.AppVersion -}}
{{- end }}

{{/* Where the data are: on the volume with every image. Those before 18 would keep them beside it, lost with the pod. */}}
{{- define "postgres.data" -}}
/var/lib/postgresql/{{ include "postgres.major" . }}/docker
{{- end }}

{{/* Another major version finds an empty folder and would begin with an empty database: say so instead. */}}
{{- define "postgres.startScript" -}}
for held in /var/lib/postgresql/*/docker/PG_VERSION; do
  if [ -s "$held" ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "this volume holds the data of PostgreSQL $(cat "$held"), this image is another major version:" \
      "see 'Upgrade PostgreSQL' in docs/kubernetes.md" >&2
    exit 1
  fi
done
exec docker-entrypoint.sh "$@"
{{- end }}

{{/*
Asked over TCP: the server that prepares the first start answers on the socket only. In the shell's place, not below it: of a
probe that takes too long the kubelet ends the shell only; what that leaves behind becomes a child of process 1, the server,
and when it exits with 2 the server takes it for a crash of its own and drops every connection.
*/}}
{{- define "postgres.ready" -}}
exec pg_isready -q -h 127.0.0.1 -p {{ .Values.port }} -d "$POSTGRES_DB" -U "$POSTGRES_USER"
{{- end }}

{{- define "postgres.env" -}}
{{- $secret := include "postgres.secretName" . -}}
{{- range $name, $key := dict "POSTGRES_USER" "username" "POSTGRES_PASSWORD" "password" "POSTGRES_DB" "database" }}
{{ include "workload.secretEnv" (dict "env" $name "secret" $secret "key" $key) }}
{{- end }}
- {name: PGDATA, value: {{ include "postgres.data" . }}}
{{- end }}

{{- define "postgres.arguments" -}}
- postgres
{{- $required := dict "port" .Values.port "max_connections" .Values.maxConnections "synchronous_commit" "on" }}
{{- range $name, $value := merge $required .Values.settings }}
- -c
- {{ printf "%s=%s" $name ($value | toJson | trimAll "\"") | quote }}
{{- end }}
{{- end }}

{{- define "postgres.container" -}}
{{- $ready := list "sh" "-c" (include "postgres.ready" .) | toJson -}}
name: postgres
{{- if not .Values.allowEmptyMajor }}
command: ["sh", "-ec", {{ include "postgres.startScript" . | quote }}, "start"]
{{- end }}
args:
  {{- include "postgres.arguments" . | nindent 2 }}
env:
  {{- include "postgres.env" . | nindent 2 }}
ports:
  - {name: postgres, containerPort: {{ .Values.port }}, protocol: TCP}
startupProbe:
  exec: {command: {{ $ready }}}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 300
livenessProbe:
  exec: {command: {{ $ready }}}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- /* Seldom, since each is a process: at the start the kubelet asks as soon as the startup probe is through. */}}
readinessProbe:
  exec: {command: {{ $ready }}}
  periodSeconds: 10
  timeoutSeconds: 5
volumeMounts:
  - {name: data, mountPath: /var/lib/postgresql}
  - {name: run, mountPath: /var/run/postgresql}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "postgres.volumes" -}}
{{ include "workload.scratch" (dict "name" "run" "size" "16Mi") }}
{{ include "workload.scratch" (dict "name" "tmp" "size" "64Mi") }}
{{- end }}

{{- define "postgres.exporterEnv" -}}
- {name: DATA_SOURCE_URI, value: "127.0.0.1:{{ .Values.port }}/postgres?sslmode=disable"}
- {name: PG_EXPORTER_WEB_LISTEN_ADDRESS, value: ":{{ .Values.metrics.port }}"}
{{- range $name, $key := dict "DATA_SOURCE_USER" "username" "DATA_SOURCE_PASS" "password" }}
{{ include "workload.secretEnv" (dict "env" $name "secret" (include "postgres.secretName" $) "key" $key) }}
{{- end }}
{{- end }}
