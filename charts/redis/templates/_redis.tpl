{{- define "redis.secretName" -}}
{{- .Values.global.lockRedis.existingSecret | default (include "store.secretName" .) -}}
{{- end }}

{{- define "redis.port" -}}
{{- .Values.global.lockRedis.port | default .Values.port -}}
{{- end }}

{{/*
Compares the answer: redis-cli also exits with 0 when Redis answers NOAUTH or LOADING. In the pod the password is read from
a file, which follows the Secret: a changed password needs no new pod.
*/}}
{{- define "redis.ping" -}}
test "$(redis-cli -h "$REDIS_HOST" -p {{ include "redis.port" . }} ping)" = PONG
{{- end }}

{{- define "redis.probe" -}}
export REDISCLI_AUTH="$(cat /run/redis/password)"; {{ include "redis.ping" . }}
{{- end }}

{{- define "redis.container" -}}
{{- $probe := list "sh" "-c" (include "redis.probe" .) | toJson -}}
name: redis
command: ["sh", "-ec", 'exec redis-server /etc/redis/redis.conf --requirepass "$(cat /run/redis/password)"']
env:
  - {name: REDIS_HOST, value: 127.0.0.1}
ports:
  - {name: redis, containerPort: {{ include "redis.port" . }}, protocol: TCP}
startupProbe:
  exec: {command: {{ $probe }}}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  tcpSocket: {port: redis}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- /* Seldom, since each is a process: at the start the kubelet asks as soon as the startup probe is through. */}}
readinessProbe:
  exec: {command: {{ $probe }}}
  periodSeconds: 10
  timeoutSeconds: 5
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: config, mountPath: /etc/redis, readOnly: true}
  - {name: password, mountPath: /run/redis, readOnly: true}
{{- end }}

{{- define "redis.config" -}}
bind * -::*
protected-mode no
port {{ include "redis.port" . }}
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
    name: {{ include "workload.fullname" . | quote }}
- name: password
  secret:
    secretName: {{ include "redis.secretName" . | quote }}
    items: [{key: password, path: password}]
{{- end }}

{{- define "redis.exporterEnv" -}}
- {name: REDIS_ADDR, value: "redis://127.0.0.1:{{ include "redis.port" . }}"}
- {name: REDIS_EXPORTER_WEB_LISTEN_ADDRESS, value: ":{{ .Values.metrics.port }}"}
{{ include "workload.secretEnv" (dict "env" "REDIS_PASSWORD" "secret" (include "redis.secretName" .) "key" "password") }}
{{- end }}
