{{/* The invoice service calls nobody but its database and the lock Redis. */}}
{{- define "invoice.settings" -}}
{{- end }}

{{- define "invoice.egress" -}}
{{- end }}
