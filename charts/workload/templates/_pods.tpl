{{/*
A pinned image reference. A digest wins over a tag, global.imageRegistry over the image's own. A tag may be a number, as
`--set image.tag=19` makes it. Takes {root, image}.
*/}}
{{- define "workload.image" -}}
{{- $registry := (.root.Values.global).imageRegistry | default .image.registry | trimSuffix "/" -}}
{{- $name := .image.repository -}}
{{- if $registry -}}
{{- $name = printf "%s/%s" $registry .image.repository -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion | toJson | trimAll "\"") -}}
{{- end -}}
{{- end }}

{{/* image and imagePullPolicy of a container. Takes {root, image}. */}}
{{- define "workload.imageFields" -}}
image: {{ include "workload.image" . | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* Lays the fields of one map over another's; null takes a field away. (Sprig's merges pass over false, 0 and null.) */}}
{{- define "workload.overlay" -}}
{{- $onto := .onto -}}
{{- range $field, $value := .from -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $onto $field -}}
{{- else -}}
{{- $_ := set $onto $field $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The container's half of the hardening: what the values say, for every container of the chart. Takes {root, writable}. */}}
{{- define "workload.containerSecurity" -}}
{{- $security := dict "allowPrivilegeEscalation" false "privileged" false "readOnlyRootFilesystem" true "runAsNonRoot" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- include "workload.overlay" (dict "onto" $security "from" .root.Values.securityContext) -}}
{{- if .writable -}}
{{- $_ := set $security "readOnlyRootFilesystem" false -}}
{{- end -}}
{{- toYaml $security -}}
{{- end }}

{{/* The pod's half: the image's user, unless the cluster is to choose one. Takes {root, uid}. */}}
{{- define "workload.podSecurity" -}}
{{- $security := dict "runAsNonRoot" true "fsGroupChangePolicy" "OnRootMismatch" "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if not (.root.Values.global).openshift -}}
{{- $security = merge $security (dict "runAsUser" .uid "runAsGroup" .uid "fsGroup" .uid) -}}
{{- end -}}
{{- include "workload.overlay" (dict "onto" $security "from" .root.Values.podSecurityContext) -}}
{{- toYaml $security -}}
{{- end }}

{{/* Secrets to pull images with: names and {name: ...} alike. */}}
{{- define "workload.pullSecrets" -}}
{{- range (.Values.global).imagePullSecrets }}
- name: {{ ternary (dict "name" .) . (kindIs "string" .) | dig "name" "" | quote }}
{{- end }}
{{- end }}

{{/* The pod's half of the hardening, and where it may run. Takes {root, uid}, optionally serviceAccount. */}}
{{- define "workload.podFields" -}}
serviceAccountName: {{ .serviceAccount | default "default" | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "workload.podSecurity" . | nindent 2 }}
{{- with (.root.Values.global).imagePullSecrets }}
imagePullSecrets:
  {{- include "workload.pullSecrets" $.root | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A volume in the pod's own memory of the node's disk, bounded. Takes {name, size}. */}}
{{- define "workload.scratch" -}}
- name: {{ .name | quote }}
  emptyDir:
    sizeLimit: {{ .size }}
{{- end }}

{{/* The annotations of a pod that `helm test` runs; a failed one stays to be looked at. */}}
{{- define "workload.testHook" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* An environment variable taken from a Secret. Takes {env, secret, key}. */}}
{{- define "workload.secretEnv" -}}
- name: {{ .env | quote }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .key }}
{{- end }}

{{/* A list of the values, with the templates in it filled in. Takes {root, list}. */}}
{{- define "workload.filled" -}}
{{- tpl (toYaml .list) .root -}}
{{- end }}

{{/* Manifests of the user's own, as maps or as text; templates in them are filled in. */}}
{{- define "workload.extraObjects" -}}
{{- range .Values.extraObjects }}
---
{{ tpl (ternary . (toYaml .) (kindIs "string" .)) $ }}
{{- end }}
{{- end }}
