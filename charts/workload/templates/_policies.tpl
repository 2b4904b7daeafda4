{{/* Peers of a NetworkPolicy rule; templates inside the values are filled in. Takes {root, peers}. */}}
{{- define "workload.peers" -}}
{{- tpl (toYaml .peers) .root -}}
{{- end }}

{{/* Egress to the cluster's DNS: by UDP, and by TCP for what does not fit. 5353 is where OpenShift's pods listen. */}}
{{- define "workload.dnsEgress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
    - {port: 5353, protocol: UDP}
    - {port: 5353, protocol: TCP}
{{- end }}

{{/* Egress to a TCP port, of any address unless peers are named. Takes {root, peers, port}, optionally portName: of pods. */}}
{{- define "workload.egress" -}}
- ports:
    - {port: {{ .port }}, protocol: TCP}
    {{- if and .portName (contains "podSelector" (toJson (.peers | default list))) }}
    - {port: {{ .portName }}, protocol: TCP}
    {{- end }}
  {{- with .peers }}
  to:
    {{- include "workload.peers" (dict "root" $.root "peers" .) | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The port a URL names, or its scheme's own. */}}
{{- define "workload.urlPort" -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end }}
