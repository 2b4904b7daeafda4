{{- define "redis.secretName" -}}
{{- include "store.secretName" . -}}
{{- end }}

{{/* Compares the answer: redis-cli also exits with 0 when Redis answers NOAUTH or LOADING. */}}
{{- define "redis.ping" -}}
test "$(redis-cli -h "$REDIS_HOST" -p {{ .Values.port }} ping)" = PONG
{{- end }}

{{- define "redis.env" -}}
{{ include "workload.secretEnv" (dict "env" "REDISCLI_AUTH" "secret" (include "redis.secretName" .) "key" "password") }}
- name: REDIS_HOST
{{- end }}

{{- define "redis.container" -}}
name: redis
command: ["sh", "-ec", 'exec redis-server /etc/redis/redis.conf --requirepass "$REDISCLI_AUTH"']
env:
  {{- include "redis.env" . | nindent 2 }}
    value: 127.0.0.1
ports:
  - {name: redis, containerPort: {{ .Values.port }}, protocol: TCP}
startupProbe:
  exec: {command: ["sh", "-c", {{ include "redis.ping" . | quote }}]}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  tcpSocket: {port: redis}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  exec: {command: ["sh", "-c", {{ include "redis.ping" . | quote }}]}
  periodSeconds: 5
  timeoutSeconds: 5
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: config, mountPath: /etc/redis, readOnly: true}
{{- end }}

{{- define "redis.config" -}}
bind * -::*
protected-mode no
port {{ .Values.port }}
dir /data
# A lock that was granted must survive a crash: on disk before the answer.
appendonly yes
appendfsync always
save ""
# A lock must never be thrown away to make room.
maxmemory {{ .Values.maxMemory }}
maxmemory-policy noeviction
{{- end }}

{{- define "redis.volumes" -}}
- name: config
  configMap:
    name: {{ include "workload.fullname" . }}
{{- end }}
