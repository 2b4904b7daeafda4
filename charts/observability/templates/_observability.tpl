{{/* Names of the parts: <release>-prometheus and so on. Takes [context, part]. */}}
{{- define "observability.name" -}}
{{- printf "%s-%s" (include "workload.fullname" (first .)) (last .) -}}
{{- end }}

{{/* The trace backend that is installed: tempo, jaeger or nothing. */}}
{{- define "observability.traceBackend" -}}
{{- if and .Values.tempo.enabled .Values.jaeger.enabled -}}
{{- fail "tempo.enabled and jaeger.enabled exclude each other: there is one trace backend" -}}
{{- end -}}
{{- if .Values.tempo.enabled -}}tempo{{- else if .Values.jaeger.enabled -}}jaeger{{- end -}}
{{- end }}

{{/*
One part: a Deployment of one pod, its Service, its claim and its NetworkPolicy. Labels name the part, as Prometheus
and Grafana are known everywhere. Takes {root, part, uid, container, volumes, dataPath, ports, checksum}.
*/}}
{{- define "observability.part" -}}
{{- $values := index .root.Values .part -}}
{{- $name := include "observability.name" (list .root .part) -}}
{{- $selector := include "observability.selector" . -}}
{{- $persistence := $values.persistence | default (dict "enabled" false "size" "1Gi") -}}
{{ include "observability.head" (merge (dict "api" "apps/v1" "kind" "Deployment" "name" $name) .) }}
spec:
  replicas: 1
  revisionHistoryLimit: 3
  strategy:
    type: Recreate
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- $selector | nindent 8 }}
      annotations:
        checksum/config: {{ .checksum | sha256sum }}
    spec:
      {{- include "workload.podFields" (dict "root" .root "uid" .uid "serviceAccount" .serviceAccount) | nindent 6 }}
      terminationGracePeriodSeconds: 60
      containers:
        - {{ .container | nindent 10 | trim }}
          {{- include "workload.imageFields" (dict "root" .root "image" $values.image) | nindent 10 }}
          securityContext:
            {{- include "workload.containerSecurity" (dict "root" .root) | nindent 12 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          ports:
            {{- range $port, $number := .ports }}
            - {name: {{ $port }}, containerPort: {{ $number }}, protocol: TCP}
            {{- end }}
      volumes:
        {{- .volumes | nindent 8 }}
        {{- if $persistence.enabled }}
        - name: data
          persistentVolumeClaim:
            claimName: {{ $name | quote }}
        {{- else }}
        {{- include "workload.scratch" (dict "name" "data" "size" $persistence.size) | nindent 8 }}
        {{- end }}
---
{{ include "observability.head" (merge (dict "api" "v1" "kind" "Service" "name" $name) .) }}
spec:
  selector:
    {{- $selector | nindent 4 }}
  ports:
    {{- range $port, $number := .ports }}
    - {name: {{ $port }}, port: {{ $number }}, targetPort: {{ $port }}, protocol: TCP}
    {{- end }}
{{- if $persistence.enabled }}
---
{{ include "observability.head" (merge (dict "api" "v1" "kind" "PersistentVolumeClaim" "name" $name) .) }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with $persistence.storageClass }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ $persistence.size }}
{{- end }}
{{- end }}

{{- define "observability.selector" -}}
app.kubernetes.io/name: {{ .part | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ ternary "traces" .part (or (eq .part "tempo") (eq .part "jaeger")) | quote }}
{{- end }}

{{/* The labels of a resource of one part; the chart's own win over those that the values add. Takes {root, part}. */}}
{{- define "observability.labels" -}}
{{- $own := include "observability.selector" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "observability" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- merge $own (include "workload.commonLabels" .root | fromYaml) | toYaml -}}
{{- end }}

{{/* apiVersion, kind and metadata of a resource of one part. Takes {root, part, api, kind, name}, optionally annotations. */}}
{{- define "observability.head" -}}
apiVersion: {{ .api }}
kind: {{ .kind }}
metadata:
  name: {{ .name | quote }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  labels:
    {{- include "observability.labels" . | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Takes {root, part, ingress, egress}. */}}
{{- define "observability.networkPolicy" -}}
{{- if .root.Values.networkPolicy.enabled }}
---
{{ include "observability.head" (merge (dict "api" "networking.k8s.io/v1" "kind" "NetworkPolicy" "name" (include "observability.name" (list .root .part))) .) }}
spec:
  podSelector:
    matchLabels:
      {{- include "observability.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- .ingress | nindent 4 }}
  egress:
    {{- include "workload.dnsEgress" . | nindent 4 }}
    {{- .egress | nindent 4 }}
{{- end }}
{{- end }}

{{/* Ingress of a port from this release's own parts and from the peers in the values. Takes {root, port, peers}. */}}
{{- define "observability.ingress" -}}
- ports:
    - {port: {{ .port }}, protocol: TCP}
  from:
    - podSelector:
        matchLabels:
          app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
    {{- include "workload.peers" . | nindent 4 }}
{{- end }}

{{/* Egress to another part of this release. Takes {root, part, port}. */}}
{{- define "observability.egress" -}}
- ports:
    - {port: {{ .port }}, protocol: TCP}
  to:
    - podSelector:
        matchLabels:
          {{- include "observability.selector" . | nindent 10 }}
{{- end }}

{{/* A volume of ConfigMaps that need not exist. Takes {name, from}. */}}
{{- define "observability.optionalFiles" -}}
- name: {{ .name | quote }}
  projected:
    sources:
      {{- range .from }}
      - configMap: {name: {{ . | quote }}, optional: true}
      {{- end }}
      {{- if not .from }}
      []
      {{- end }}
{{- end }}
