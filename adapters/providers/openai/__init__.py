"""OpenAI: Conversations and Responses; threads and runs on servers of one's own."""
