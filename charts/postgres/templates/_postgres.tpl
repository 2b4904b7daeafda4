{{- define "postgres.secretName" -}}
{{- include "store.secretName" . -}}
{{- end }}

{{/* Asked over TCP: the server that prepares the first start answers on the socket only. */}}
{{- define "postgres.ready" -}}
pg_isready -q -h 127.0.0.1 -p {{ .Values.port }} -d "$POSTGRES_DB" -U "$POSTGRES_USER"
{{- end }}

{{- define "postgres.env" -}}
{{- $secret := include "postgres.secretName" . -}}
{{- range $name, $key := dict "POSTGRES_USER" "username" "POSTGRES_PASSWORD" "password" "POSTGRES_DB" "database" }}
{{ include "workload.secretEnv" (dict "env" $name "secret" $secret "key" $key) }}
{{- end }}
{{- end }}

{{- define "postgres.arguments" -}}
- postgres
{{- $required := dict "port" .Values.port "max_connections" .Values.maxConnections "synchronous_commit" "on" }}
{{- range $name, $value := merge $required .Values.settings }}
- -c
- {{ printf "%s=%s" $name ($value | toString) | quote }}
{{- end }}
{{- end }}

{{- define "postgres.container" -}}
{{- $ready := list "sh" "-c" (include "postgres.ready" .) | toJson -}}
name: postgres
args:
  {{- include "postgres.arguments" . | nindent 2 }}
env:
  {{- include "postgres.env" . | nindent 2 }}
ports:
  - {name: postgres, containerPort: {{ .Values.port }}, protocol: TCP}
startupProbe:
  exec: {command: {{ $ready }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 150
livenessProbe:
  exec: {command: {{ $ready }}}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  exec: {command: {{ $ready }}}
  periodSeconds: 5
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
