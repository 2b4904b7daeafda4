{{/* The name that labels and resource names are made of: the chart's, unless overridden. */}}
{{- define "workload.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end }}

{{/*
The first part of every resource name. Takes {release, name, override}.
45 characters at most: the longest suffix (-migrate- and a hash) still makes 63, and a StatefulSet's name
plus the revision hash that Kubernetes puts into a label stays below 63 as well. What is cut is told apart by a hash.
*/}}
{{- define "workload.fullnameOf" -}}
{{- $full := printf "%s-%s" .release .name -}}
{{- if .override -}}
{{- $full = .override -}}
{{- else if contains .name .release -}}
{{- $full = .release -}}
{{- else if hasPrefix (printf "%s-" .release) .name -}}
{{- $full = .name -}}
{{- end -}}
{{- if gt (len $full) 45 -}}
{{- $full = printf "%s-%s" (trunc 36 $full | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end }}

{{- define "workload.fullname" -}}
{{- include "workload.fullnameOf" (dict "release" .Release.Name "name" (include "workload.name" .) "override" .Values.fullnameOverride) -}}
{{- end }}

{{/* What selectors use, and nothing else: these never change between versions. Takes {root, component}. */}}
{{- define "workload.selectorLabels" -}}
app.kubernetes.io/name: {{ include "workload.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels of a resource. Takes {root, component}. */}}
{{- define "workload.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{ include "workload.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: shop
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* apiVersion, kind and metadata of a resource. Takes {root, component, api, kind, name}, optionally labels and annotations. */}}
{{- define "workload.head" -}}
apiVersion: {{ .api }}
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "workload.labels" . | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
