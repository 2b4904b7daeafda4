{{- define "shop.backupName" -}}
{{- printf "%s-backup" (include "workload.fullname" .) -}}
{{- end }}

{{- define "shop.backupEnv" -}}
- {name: BACKUP_FOLDER, value: /backups}
- {name: KEEP, value: {{ int64 .Values.backup.keep | quote }}}
{{- range $name := list "order" "invoice" }}
{{ include "workload.secretEnv" (dict "env" (printf "%s_DATABASE_URI" (upper $name)) "secret" (include "service.databaseSecret" (index $.Subcharts $name)) "key" "uri") }}
{{- end }}
{{- include "service.databaseTlsEnv" .Subcharts.order }}
{{- end }}

{{/* One container that sees the backups. Takes {root, name, command, image (the fields), env}. */}}
{{- define "shop.backupContainer" -}}
name: {{ .name | quote }}
{{ .image }}
{{- with .command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .env }}
env:
  {{- . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "workload.containerSecurity" (dict "root" .root) | nindent 2 }}
resources:
  {{- toYaml .root.Values.backup.resources | nindent 2 }}
volumeMounts:
  - {name: backups, mountPath: /backups}
  - {name: scripts, mountPath: /scripts, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if and .root.Values.order.externalDatabase.tlsSecret (ne .name "upload") }}
  - {name: database-tls, mountPath: {{ include "service.tlsPath" "database" }}, readOnly: true}
  {{- end }}
{{- end }}

{{/* The pod of a backup or a restore: the script first, then, after a backup, the upload. Takes {root, script}. */}}
{{- define "shop.backupPod" -}}
{{- $backup := .root.Values.backup -}}
{{- $image := include "workload.imageFields" (dict "root" .root "image" $backup.image) -}}
{{- $script := include "shop.backupContainer" (dict "root" .root "name" .script "image" $image "command" (list "bash" (printf "/scripts/%s.sh" .script)) "env" (include "shop.backupEnv" .root)) -}}
{{- $upload := and (eq .script "backup") $backup.upload.image.repository -}}
restartPolicy: Never
{{ include "workload.podFields" (dict "root" .root "uid" 999) }}
{{- if $upload }}
initContainers:
  - {{ $script | nindent 4 | trim }}
{{- end }}
containers:
  {{- if $upload }}
  - {{ include "shop.backupContainer" (dict "root" .root "name" "upload" "image" (include "workload.imageFields" (dict "root" .root "image" $backup.upload.image)) "command" $backup.upload.command "env" (ternary "" (toYaml $backup.upload.env) (empty $backup.upload.env))) | nindent 4 | trim }}
  {{- else }}
  - {{ $script | nindent 4 | trim }}
  {{- end }}
volumes:
  - name: backups
    persistentVolumeClaim: {claimName: {{ tpl $backup.claim .root | quote }}}
  - name: scripts
    configMap: {name: {{ include "shop.backupName" .root | quote }}}
  {{- with .root.Values.order.externalDatabase.tlsSecret }}
  - name: database-tls
    secret: {secretName: {{ . | quote }}, defaultMode: 0440}
  {{- end }}
  {{- include "workload.scratch" (dict "name" "tmp" "size" "64Mi") | nindent 2 }}
{{- end }}

{{/* A backup on its schedule, or a restore that waits until a person makes a Job of it. Takes {root, script}. */}}
{{- define "shop.backupCronJob" -}}
{{- $labels := dict "root" .root "component" "backup" -}}
{{- $backup := .root.Values.backup -}}
{{ include "workload.head" (merge (dict "api" "batch/v1" "kind" "CronJob" "name" (printf "%s-%s" (include "workload.fullname" .root) .script)) $labels) }}
spec:
  schedule: {{ $backup.schedule | quote }}
  suspend: {{ ne .script "backup" }}
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 0
      activeDeadlineSeconds: {{ int64 $backup.activeDeadlineSeconds }}
      ttlSecondsAfterFinished: 604800
      template:
        metadata:
          labels:
            {{- include "workload.selectorLabels" $labels | nindent 12 }}
        spec:
          {{- include "shop.backupPod" . | nindent 10 }}
{{- end }}

{{- define "shop.backupNetworkPolicy" -}}
{{- $labels := dict "root" . "component" "backup" -}}
{{ include "workload.head" (merge (dict "api" "networking.k8s.io/v1" "kind" "NetworkPolicy" "name" (include "shop.backupName" .)) $labels) }}
spec:
  podSelector:
    matchLabels:
      {{- include "workload.selectorLabels" $labels | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "workload.dnsEgress" . | nindent 4 }}
    {{- range $name := list "order" "invoice" }}
    {{- $service := index $.Subcharts $name }}
    {{- if $service.Values.postgres.enabled }}
    {{- $store := $service.Subcharts.postgres }}
    {{- $peer := dict "podSelector" (dict "matchLabels" (include "workload.selectorLabels" (dict "root" $store "component" "database") | fromYaml)) }}
    {{- include "workload.egress" (dict "root" $service "port" (include "postgres.port" $store) "peers" (list $peer)) | nindent 4 }}
    {{- else }}
    {{- include "workload.egress" (dict "root" $service "port" $service.Values.externalDatabase.port "peers" $service.Values.networkPolicy.databaseTo) | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with .Values.backup.extraEgress }}
    {{- include "workload.peers" (dict "root" $ "peers" .) | nindent 4 }}
    {{- end }}
{{- end }}
