"""What is compared with the service: each as a user would write it, in a process of its own.

They are told what to do by KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPICS, KAFKA_GROUP_ID and DELAY_SECONDS, as the service is.
"""
