{{/* A pinned image reference. A digest wins over a tag, global.imageRegistry over the image's own. Takes {root, image}. */}}
{{- define "workload.image" -}}
{{- $registry := (.root.Values.global).imageRegistry | default .image.registry -}}
{{- $name := .image.repository -}}
{{- if $registry -}}
{{- $name = printf "%s/%s" $registry .image.repository -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* image and imagePullPolicy of a container. Takes {root, image}. */}}
{{- define "workload.imageFields" -}}
image: {{ include "workload.image" . | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* The container's half of the hardening: the same for every container of every chart. Takes {writable}. */}}
{{- define "workload.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: {{ not .writable }}
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
{{- end }}

{{/* The pod's half of the hardening, and where it may run. Takes {root, uid}, optionally serviceAccount. */}}
{{- define "workload.podFields" -}}
serviceAccountName: {{ .serviceAccount | default "default" }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid }}
  runAsGroup: {{ .uid }}
  fsGroup: {{ .uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with (.root.Values.global).imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
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
- name: {{ .name }}
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
- name: {{ .env }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
