{{/* The name that labels and resource names are made of: the chart's, unless overridden. */}}
{{- define "workload.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end }}

{{/*
A release's name as the beginning of a resource's name: Helm allows dots and digits in front, a Service's name does not.
What is changed is told apart by a hash, so that `my.shop` and `my-shop` do not meet.
*/}}
{{- define "workload.releasePrefix" -}}
{{- $plain := . | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $plain -}}
{{- $plain = printf "r%s" $plain -}}
{{- end -}}
{{- if ne $plain . -}}
{{- $plain = printf "%s-%s" $plain (sha256sum . | trunc 8) -}}
{{- end -}}
{{- $plain -}}
{{- end }}

{{/*
The first part of every resource name. Takes {release, name, override}.
45 characters at most: the longest suffix (-migrate- and a hash) still makes 63, and a StatefulSet's name
plus the revision hash that Kubernetes puts into a label stays below 63 as well. What is cut is the release, and a hash
tells two of them apart: the end of a pod's name still says what it runs.
*/}}
{{- define "workload.fullnameOf" -}}
{{- $release := include "workload.releasePrefix" .release -}}
{{- $full := printf "%s-%s" $release .name -}}
{{- if .override -}}
{{- $full = .override -}}
{{- else if and (contains .name .release) (le (len $release) 45) -}}
{{- $full = $release -}}
{{- else if hasPrefix (printf "%s-" .release) .name -}}
{{- $full = .name -}}
{{- end -}}
{{- if gt (len $full) 45 -}}
{{- $hash := sha256sum $full | trunc 8 -}}
{{- if le (len .name) 30 -}}
{{- $full = printf "%s-%s-%s" (trunc (int (sub 35 (len .name))) $release | trimSuffix "-") $hash .name -}}
{{- else -}}
{{- $full = printf "%s-%s" (trunc 36 $full | trimSuffix "-") $hash -}}
{{- end -}}
{{- end -}}
{{- $full -}}
{{- end }}

{{- define "workload.fullname" -}}
{{- include "workload.fullnameOf" (dict "release" .Release.Name "name" (include "workload.name" .) "override" .Values.fullnameOverride) -}}
{{- end }}

{{/* What selectors use, and nothing else: these never change between versions. Takes {root, component}. */}}
{{- define "workload.selectorLabels" -}}
app.kubernetes.io/name: {{ include "workload.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- end }}

{{/* The labels that all of an installation carries besides: those of the chart that contains this one, then its own. */}}
{{- define "workload.commonLabels" -}}
{{- merge dict (.Values.commonLabels | default dict) ((.Values.global).commonLabels | default dict) | toYaml -}}
{{- end }}

{{/* The labels of a resource; the chart's own win over those that the values add. Takes {root, component}, optionally labels. */}}
{{- define "workload.labels" -}}
{{- $own := include "workload.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "shop" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- merge $own (.labels | default dict) (include "workload.commonLabels" .root | fromYaml) | toYaml -}}
{{- end }}

{{/* apiVersion, kind and metadata of a resource. Takes {root, component, api, kind, name}, optionally labels and annotations. */}}
{{- define "workload.head" -}}
apiVersion: {{ .api }}
kind: {{ .kind }}
metadata:
  name: {{ .name | quote }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "workload.labels" . | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
