{{/*
A password that survives upgrades: what the cluster holds, else what the values give, else a random one, once.
`helm template` sees no cluster, so it shows another random one each time. Takes {root, secret, key, given}.
*/}}
{{- define "workload.password" -}}
{{- $held := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $value := index ($held.data | default dict) .key -}}
{{- if $value -}}
{{- b64dec $value -}}
{{- else -}}
{{- .given | default (randAlphaNum 32) -}}
{{- end -}}
{{- end }}

{{/* Encodes one part of a URI. */}}
{{- define "workload.uriPart" -}}
{{- . | urlquery | replace "+" "%20" -}}
{{- end }}

{{/* A host as a URI holds it: an IPv6 address in brackets. */}}
{{- define "workload.uriHost" -}}
{{- if and (contains ":" .) (not (hasPrefix "[" .)) -}}[{{ . }}]{{- else -}}{{ . }}{{- end -}}
{{- end }}

{{/*
A Secret that says how to reach a server, kept when the release is uninstalled (its data is kept too).
Takes {root, component, name, scheme, host, port, username, given (password), database}, optionally query.
*/}}
{{- define "workload.connectionSecret" -}}
{{- $password := include "workload.password" (dict "root" .root "secret" .name "key" "password" "given" .given) -}}
{{- $user := printf "%s:%s" (include "workload.uriPart" .username) (include "workload.uriPart" $password) -}}
{{- $database := include "workload.uriPart" (.database | toString) -}}
{{- $uri := printf "%s://%s@%s:%v/%s" .scheme $user (include "workload.uriHost" .host) .port $database -}}
{{- with .query -}}
{{- $uri = printf "%s?%s" $uri . -}}
{{- end -}}
{{- include "workload.head" (merge (dict "api" "v1" "kind" "Secret" "annotations" (dict "helm.sh/resource-policy" "keep")) .) }}
type: Opaque
data:
  host: {{ .host | trimPrefix "[" | trimSuffix "]" | b64enc | quote }}
  port: {{ .port | toString | b64enc | quote }}
  username: {{ .username | b64enc | quote }}
  password: {{ $password | b64enc | quote }}
  database: {{ .database | toString | b64enc | quote }}
  uri: {{ $uri | b64enc | quote }}
{{- end }}
