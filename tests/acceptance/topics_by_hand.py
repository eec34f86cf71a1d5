"""In place of Kafka's kafka-topics.sh: deletes the topics whose names match a pattern."""

import argparse
import re

from tests.acceptance.kafka_by_hand import KafkaByHand


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--delete", action="store_true", required=True)
    parser.add_argument("--topic", required=True)
    options = parser.parse_args()
    kafka = KafkaByHand(options.bootstrap_server)
    kafka.delete(topic for topic in kafka.topics() if re.fullmatch(options.topic, topic))


if __name__ == "__main__":
    main()
