{{/*
The schema is brought up by a Job of each release, beside the new pods: they are not ready before the schema is, the old
ones go on serving, and `--wait` cannot deadlock as it does when a hook waits for a database that the release itself brings.
Its name ends in a hash of what it runs, because a Job cannot be changed, only replaced.
*/}}
{{- define "migrations.waitScript" -}}
import os, sys, time, psycopg
deadline = time.monotonic() + {{ int64 .Values.migrations.databaseWaitSeconds }}
said = ""
while True:
    try:
        psycopg.connect(os.environ["DATABASE_URI"], connect_timeout=10).close()
        break
    except psycopg.OperationalError as error:
        reason = str(error).partition("\n")[0]
        if time.monotonic() > deadline:
            sys.exit(f"no connection within {{ int64 .Values.migrations.databaseWaitSeconds }} s: {reason}")
        if reason != said:
            print(said := reason, flush=True)
        time.sleep(1)
{{- end }}

{{/* Waits for a database that is still starting: quicker and quieter than a Job that fails and backs off. */}}
{{- define "migrations.waitContainer" -}}
{{- $own := printf "%s\n%s" (include "workload.secretEnv" (dict "env" "DATABASE_URI" "secret" (include "service.databaseSecret" .) "key" "uri")) (include "service.databaseTlsEnv" .) -}}
{{- $env := include "service.envOf" (list . $own) | fromYamlArray -}}
{{- $rest := dict "command" (list "python" "-c" (include "migrations.waitScript" .)) "env" $env "resources" .Values.migrations.resources -}}
{{ include "service.container" (dict "root" . "name" "wait-for-database" "rest" (toYaml $rest)) }}
{{- end }}

{{- define "migrations.container" -}}
{{- $rest := dict "args" (list "migrate") "env" (include "service.env" . | fromYamlArray) "resources" .Values.migrations.resources -}}
{{ include "service.container" (dict "root" . "name" "migrate" "rest" (toYaml $rest)) }}
{{- end }}

{{- define "migrations.spec" -}}
backoffLimit: {{ int64 .Values.migrations.backoffLimit }}
activeDeadlineSeconds: {{ int64 .Values.migrations.activeDeadlineSeconds }}
{{- if ge (int64 .Values.migrations.ttlSecondsAfterFinished) 0 }}
ttlSecondsAfterFinished: {{ int64 .Values.migrations.ttlSecondsAfterFinished }}
{{- end }}
template:
  metadata:
    labels:
      {{- merge (dict "app.kubernetes.io/part-of" "shop") (include "workload.selectorLabels" (dict "root" . "component" "migrations") | fromYaml) .Values.podLabels (include "workload.commonLabels" . | fromYaml) | toYaml | nindent 6 }}
  spec:
    restartPolicy: OnFailure
    initContainers:
      - {{ include "migrations.waitContainer" . | nindent 8 | trim }}
    {{- include "service.podFields" (dict "root" . "container" (include "migrations.container" .)) | nindent 4 }}
{{- end }}

{{- define "migrations.hookAnnotations" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "service.migrations" -}}
{{- if .Values.migrations.enabled }}
{{- $hash := sha256sum (printf "%s %d" (include "migrations.spec" .) .Release.Revision) | trunc 8 }}
{{- $head := dict "root" . "component" "migrations" "api" "batch/v1" "kind" "Job" "name" (printf "%s-migrate-%s" (include "workload.fullname" .) $hash) }}
{{- if .Values.migrations.hook }}
{{- $_ := set $head "annotations" (merge (include "migrations.hookAnnotations" . | fromYaml) .Values.migrations.annotations) }}
{{- else }}
{{- $_ := set $head "annotations" .Values.migrations.annotations }}
{{- end }}
{{ include "workload.head" $head }}
spec:
  {{- include "migrations.spec" . | nindent 2 }}
{{- end }}
---
{{- include "migrations.networkPolicy" . }}
{{- end }}
