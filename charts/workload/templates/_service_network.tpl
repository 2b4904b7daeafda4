{{/* The API's Service, and one for the metrics, which stay inside the cluster whatever the type of the first. */}}
{{- define "service.service" -}}
{{- $labels := dict "root" . "component" "api" -}}
{{- $service := .Values.service -}}
{{ include "workload.head" (merge (dict "api" "v1" "kind" "Service" "name" (include "workload.fullname" .) "annotations" $service.annotations) $labels) }}
spec:
  type: {{ $service.type }}
  {{- include "service.ipFamilies" $service | nindent 2 }}
  {{- with $service.externalTrafficPolicy }}
  externalTrafficPolicy: {{ . }}
  {{- end }}
  {{- with $service.loadBalancerClass }}
  loadBalancerClass: {{ . }}
  {{- end }}
  {{- with $service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    {{- include "workload.selectorLabels" $labels | nindent 4 }}
  ports:
    - name: http
      port: {{ $service.port }}
      targetPort: http
      protocol: TCP
      appProtocol: http
      {{- with $service.nodePort }}
      nodePort: {{ . }}
      {{- end }}
---
{{ include "workload.head" (dict "root" . "component" "metrics" "api" "v1" "kind" "Service" "name" (printf "%s-metrics" (include "workload.fullname" .))) }}
spec:
  type: ClusterIP
  {{- include "service.ipFamilies" $service | nindent 2 }}
  selector:
    {{- include "workload.selectorLabels" $labels | nindent 4 }}
  ports:
    - {name: metrics, port: {{ .Values.metrics.port }}, targetPort: metrics, protocol: TCP, appProtocol: http}
{{- end }}

{{- define "service.ipFamilies" -}}
{{- with .ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "service.ingress" -}}
{{- if .Values.ingress.enabled }}
{{- $backend := dict "service" (dict "name" (include "workload.fullname" .) "port" (dict "name" "http")) }}
{{ include "workload.head" (dict "root" . "component" "api" "api" "networking.k8s.io/v1" "kind" "Ingress" "name" (include "workload.fullname" .) "annotations" .Values.ingress.annotations) }}
spec:
  {{- with .Values.ingress.className }}
  ingressClassName: {{ . | quote }}
  {{- end }}
  rules:
    {{- range .Values.ingress.hosts }}
    - host: {{ .host | quote }}
      http:
        paths:
          - path: {{ .path | default "/" | quote }}
            pathType: {{ .pathType | default "Prefix" }}
            backend:
              {{- toYaml $backend | nindent 14 }}
    {{- end }}
  {{- with .Values.ingress.tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A route of Gateway API. Below a path of its own, the prefix is taken off before the service sees the request. */}}
{{- define "service.httpRoute" -}}
{{- $route := .Values.httpRoute -}}
{{- if $route.enabled }}
{{ include "workload.head" (dict "root" . "component" "api" "api" "gateway.networking.k8s.io/v1" "kind" "HTTPRoute" "name" (include "workload.fullname" .) "annotations" $route.annotations) }}
spec:
  parentRefs:
    {{- toYaml $route.parentRefs | nindent 4 }}
  {{- with $route.hostnames }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches:
        - path: {type: PathPrefix, value: {{ $route.path | quote }}}
      {{- if or (ne $route.path "/") $route.filters }}
      filters:
        {{- if ne $route.path "/" }}
        - type: URLRewrite
          urlRewrite:
            path: {type: ReplacePrefixMatch, replacePrefixMatch: /}
        {{- end }}
        {{- with $route.filters }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      backendRefs:
        - {name: {{ include "workload.fullname" . | quote }}, port: {{ .Values.service.port }}}
{{- end }}
{{- end }}
