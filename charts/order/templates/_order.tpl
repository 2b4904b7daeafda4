{{/* Settings that are not in `config` because other values decide them. */}}
{{- define "order.settings" -}}
invoiceUrl: {{ tpl .Values.invoice.url . | quote }}
{{- end }}

{{- define "order.egress" -}}
{{ include "workload.egress" (dict "root" . "port" (include "workload.urlPort" (tpl .Values.invoice.url .)) "peers" .Values.networkPolicy.invoiceTo) }}
{{- end }}
