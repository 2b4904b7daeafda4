{{/* Settings that are not in `config` because other values decide them. */}}
{{- define "order.settings" -}}
{{- $url := tpl .Values.invoice.url . -}}
{{- if not (regexMatch "^https?://[^/ ]+" $url) -}}
{{- fail (printf "invoice.url is %q: it must start with http:// or https:// and a host" $url) -}}
{{- end -}}
invoiceUrl: {{ $url | quote }}
{{- end }}

{{- define "order.egress" -}}
{{ include "workload.egress" (dict "root" . "port" (include "workload.urlPort" (tpl .Values.invoice.url .)) "peers" .Values.networkPolicy.invoiceTo) }}
{{- end }}
